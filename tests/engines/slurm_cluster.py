"""A real Slurm on this machine, as root: munge, slurmctld and virtual nodes with pretended GPUs, all below one folder.

Needs: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge; for accounting (limits of a user,
sacct) slurmdbd mariadb-server too.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
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
{accounting}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL MaxTime=1:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""
_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={dir}/run/munge.socket
AccountingStorageEnforce=limits"""
_DBD = """\
AuthType=auth/munge
AuthInfo=socket={dir}/run/munge.socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
LogFile={dir}/log/slurmdbd.log
PidFile={dir}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=root
StoragePass=none
StorageLoc=slurm_acct
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 Gres=gpu:2"


def missing(*more: str) -> str:
    """Why no Slurm can be started here, or one that needs the tools `more`; "" where it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own takes root"
    tools = [tool for tool in ("slurmctld", "slurmd", "sbatch", "munged", *more) if shutil.which(tool) is None]
    packages = "slurmctld slurmd slurm-client munge" + (" slurmdbd mariadb-server" if more else "")
    return f"no {', '.join(tools)}: apt-get install {packages}" if tools else ""


class SlurmCluster:
    """Started by `start`, ended by `stop`. accounting: with a database, so that limits hold. conf: for SLURM_CONF."""

    def __init__(self, folder: Path, nodes: int = 2, cpus: int = 2, port: int = 0, accounting: bool = False) -> None:
        self.accounting = accounting
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
        if self.accounting:
            self._keep_accounts()
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
        accounts = _ACCOUNTING.format(dir=self.folder, port=self.port + 2)
        fields["accounting"] = accounts if self.accounting else ""
        self.conf.write_text(_CONF.format(**fields))
        (self.folder / "gres.conf").write_text("\n".join(gpus) + "\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def _keep_accounts(self) -> None:
        """Start a database of its own and slurmdbd, and make the cluster and its user known to it."""
        run, data = self.folder / "run", f"--datadir={self.folder}/db"
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(_DBD.format(dir=self.folder, port=self.port + 2, database=self.port + 3))
        conf.chmod(0o600)
        install = "mariadb-install-db", "--no-defaults", "--user=root", "--auth-root-authentication-method=normal"
        self._call(*install, "--skip-test-db", data)
        places = [f"--socket={run}/mariadb.socket", f"--pid-file={run}/mariadbd.pid", f"--port={self.port + 3}"]
        command = ["mariadbd", "--no-defaults", "--user=root", data, *places, "--bind-address=127.0.0.1"]
        with (self.folder / "log" / "mariadbd.log").open("wb") as out:
            subprocess.Popen([*command, "--skip-grant-tables"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._until(lambda: (run / "mariadb.socket").exists(), "the database does not start")
        self._call("slurmdbd")
        self._until(lambda: "error" not in self.ask("sacctmgr", "-n", "list", "cluster"), "slurmdbd does not answer")
        self.ask("sacctmgr", "--immediate", "add", "cluster", "nmtest")
        self.ask("sacctmgr", "--immediate", "add", "account", "lab", "cluster=nmtest")
        self.ask("sacctmgr", "--immediate", "add", "user", "root", "account=lab", "cluster=nmtest")

    @staticmethod
    def _until(condition: Callable[[], bool], trouble: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(trouble)
            time.sleep(0.2)

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
        question = "sinfo", "--noheader", "--Node", "--partition=main", "--states=idle", "--format=%N"
        idle = lambda: len(self.ask(*question).split()) == len(self.names)  # noqa: E731
        self._until(idle, "the nodes of Slurm do not become idle", seconds)

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
        """Ids of the processes of a job; another Slurm beside this one has jobs of the same number."""
        wanted, found = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_CONF={self.conf}".encode()}, []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted <= set((entry / "environ").read_bytes().split(b"\0")):
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
        for daemon in (*(f"slurmd.{name}" for name in self.names), "slurmctld", "slurmdbd", "mariadbd", "munged"):
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
