"""A real Slurm on this machine, as root: munge, slurmctld and virtual nodes with pretended GPUs, all below one folder.

Needs: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

_CONF = """\
ClusterName=nmtest
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job may not start before its first credential has expired, which takes minutes by default
AuthInfo=socket={dir}/run/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={dir}/run/slurmctld.pid
SlurmdPidFile={dir}/run/slurmd.%n.pid
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdLogFile={dir}/log/slurmd.%n.log
# no cgroups and no affinity: nothing that a container cannot do
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
# the nodes have this machine's cores several times over
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1,defer_batch
SlurmdTimeout=6
SlurmctldTimeout=10
MessageTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=300
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL MaxTime=1:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 Gres=gpu:2"


def missing() -> str:
    """Why no Slurm can be started here; "" where it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own takes root"
    tools = [tool for tool in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(tool) is None]
    return f"no {', '.join(tools)}: apt-get install slurmctld slurmd slurm-client munge" if tools else ""


class SlurmCluster:
    """Started by `start`, ended by `stop`. conf: value of SLURM_CONF."""

    def __init__(self, folder: Path, nodes: int = 2, cpus: int = 2, port: int = 0) -> None:
        self.folder, self.names, self.cpus = folder, [f"n{i + 1}" for i in range(nodes)], cpus
        self.port = port or 17000 + 20 * (os.getpid() % 500)  # tests may run side by side
        self.conf = folder / "slurm.conf"

    def start(self) -> None:
        """Returns when all nodes are idle. Raises RuntimeError."""
        for name in ("state", "spool", "log", "run", *(f"spool/{name}" for name in self.names)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._configure()
        os.environ["SLURM_CONF"] = str(self.conf)
        run = self.folder / "run"
        if not (key := run / "munge.key").exists():
            key.write_bytes(os.urandom(1024))
            key.chmod(0o600)
        places = [f"--{kind}={run}/munge.{end}" for kind, end in (("key-file", "key"), ("socket", "socket"))]
        places += [f"--pid-file={run}/munged.pid", f"--log-file={self.folder}/log/munged.log"]
        self._call("munged", "--force", *places, f"--seed-file={run}/munge.seed")
        self.controller("-c")
        for name in self.names:
            self.node(name)
        self.until_idle()

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        nodes, gpus = [], []
        for i, name in enumerate(self.names, 1):
            nodes.append(_NODE.format(name=name, host=host, port=self.port + 10 + i, cpus=self.cpus))
            for k in range(2):  # any character device will do for a GPU: these are /dev/null
                if not (device := self.folder / "run" / f"{name}-gpu{k}").exists():
                    os.mknod(device, 0o20666, os.makedev(1, 3))
            gpus.append(f"NodeName={name} Name=gpu File={self.folder}/run/{name}-gpu[0-1] Flags=nvidia_gpu_env")
        fields = {"host": host, "dir": self.folder, "port": self.port, "nodes": "\n".join(nodes)}
        self.conf.write_text(_CONF.format(**fields))
        (self.folder / "gres.conf").write_text("\n".join(gpus) + "\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def controller(self, *arguments: str) -> None:
        """Start slurmctld."""
        self._call("slurmctld", *arguments)

    def node(self, name: str, view: Path | None = None, share: Path | None = None) -> None:
        """Start slurmd of a node; one that sees the folder `share` through `view`, as a client of NFS would."""
        if view is None:
            self._call("slurmd", "-N", name)
            return
        program = 'mount --bind "$1" "$2" && exec slurmd -N "$0"'
        apart = "unshare", "--mount", "--propagation", "private", "bash", "-c", program
        self._call(*apart, name, str(view), str(share))

    def end_node(self, name: str) -> None:
        """Stop its slurmd and wait for that."""
        pid = self.pid(f"slurmd.{name}")
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.1)

    def _call(self, *command: str) -> None:
        log = self.folder / "log" / f"{command[0]}.start.log"
        with log.open("ab") as out:  # daemons keep what they are given open
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{command[0]} does not start: {log.read_text()[-300:]}")

    def until_idle(self, seconds: float = 60.0) -> None:
        """Wait until every node is idle. Raises RuntimeError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            idle = self.ask("sinfo", "--noheader", "--Node", "--partition=main", "--states=idle", "--format=%N")
            if len(idle.split()) == len(self.names):
                return
            time.sleep(0.2)
        raise RuntimeError("the nodes of Slurm do not become idle")

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints, with its errors."""
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
        )
        return done.stdout

    def jobs(self, *states: str) -> dict[str, str]:
        """Name -> id of the jobs in the states, by default those that wait or run."""
        which = [f"--states={','.join(states)}"] if states else []
        lines = self.ask("squeue", "--noheader", *which, "--format=%j|%A").splitlines()
        return {line.rpartition("|")[0].strip(): line.rpartition("|")[2].strip() for line in lines if "|" in line}

    def pid(self, daemon: str) -> int:
        """Of "slurmctld", "slurmd.n1", ..."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def processes(self, job: str) -> list[int]:
        """Ids of the processes of a job."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"SLURM_JOB_ID={job}".encode() in (entry / "environ").read_bytes().split(
                    b"\0"
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
        return sorted(found)

    def clear(self) -> None:
        """Cancel all jobs and wait for idle nodes."""
        self.ask("scancel", "--user=root")
        self.until_idle()

    def stop(self) -> None:
        """By pid files, never by name."""
        self.ask("scancel", "--user=root")
        time.sleep(0.5)
        for daemon in (*(f"slurmd.{name}" for name in self.names), "slurmctld", "munged"):
            try:
                pid = self.pid(daemon)
                os.kill(pid, signal.SIGTERM)
            except (OSError, ValueError):
                continue
            for _ in range(100):
                if not Path(f"/proc/{pid}").exists():
                    break
                time.sleep(0.1)
            else:
                os.kill(pid, signal.SIGKILL)
        os.environ.pop("SLURM_CONF", None)
