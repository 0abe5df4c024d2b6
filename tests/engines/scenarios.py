"""What happens to cells on a real Slurm: each function is one story, with what must hold at its end.

QUICK is run by test_slurm.py; all of them by `python tests/campaign/cluster.py`.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from project import Project, gone, wait
from slurm_cluster import SlurmCluster

Story = Callable[[SlurmCluster, Path], None]

ON = ("--device", "cpu", "--on", "slurm", "--engine", "settle=3", "--engine", "poll=2")
LIMIT = ("--engine", "time=20")
SLOW = "{ pause = 0.3, steps = 60 }"
_PATIENCE_S = 900.0
ROOT = Path(__file__).resolve().parents[2]


def start(project: Project, *more: str) -> "subprocess.Popen[str]":
    """`nmbench run` on Slurm, for a matrix of toys."""
    return project.start("run", *ON, *(() if "time=2" in more else LIMIT), *more)


def finish(process: "subprocess.Popen[str]", expect: int = 0) -> str:
    """What it printed."""
    out, _ = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == expect, out
    return out


def run(project: Project, *more: str, expect: int = 0) -> str:
    return finish(start(project, *more), expect)


def locally(project: Project) -> None:
    """The same matrix without an engine."""
    finish(project.start("run", "--workers", "2", "--device", "cpu"))


def new(folder: Path, name: str = "p", train: str = SLOW, **matrix: str) -> Project:
    (folder / name).mkdir()
    project = Project(folder / name)
    project.matrix(train=train, **matrix)
    return project


def training(project: Project, cluster: SlurmCluster) -> str:
    """Wait until a cell has a checkpoint; the id of its job."""
    wait(project.checkpoints, _PATIENCE_S)
    (job,) = cluster.jobs("RUNNING").values()
    return job


def statuses(project: Project) -> list[str]:
    return [record["status"] for record in sorted(project.records(), key=lambda it: it["attempt"])]


def resumed_at_the_end(project: Project, attempts: int = 2) -> None:
    record = project.ok("dense")
    assert (record["attempt"], record["timings"]["resumed"]) == (attempts, True), record["attempt"]
    assert record["curve"]["step"][-1] == 60


# -- the stories ------------------------------------------------------------------------------------------------
def all_cells(cluster: SlurmCluster, folder: Path) -> None:
    """Every cell has the metrics of a local run; ASP takes its twin's pass over; nobody claims to have been alone."""
    method = '["sr-ste", "asp"]'
    project, plain = new(folder, train="{}", method=method), new(folder, "local", train="{}", method=method)
    run(project)
    locally(plain)
    there, here = ({record["cell_id"]: record for record in it.records()} for it in (project, plain))
    assert len(there) == 3
    for cell_id, record in there.items():
        assert record["status"] == "ok"
        assert record["metrics"] == here[cell_id]["metrics"]
        assert record["environment"]["code"] == here[cell_id]["environment"]["code"]
        assert (record["timings"]["alone"], record["environment"]["threads"]) == (False, 1)
        assert bool(record.get("reused")) == (record["cell"]["method"] == "asp")


def packed(cluster: SlurmCluster, folder: Path) -> None:
    """Several cells share a job."""
    project = new(folder, train="{}", seeds="[0, 1]")
    run(project, "--pack", "4")
    assert statuses(project) == ["ok"] * 4
    assert len(list((project.folder / "work" / "toys" / "tickets").glob("*.log"))) == 1


def cancelled_by_hand(cluster: SlurmCluster, folder: Path) -> None:
    """It stays interrupted until the next run, which goes on from its checkpoint."""
    project = new(folder)
    process = start(project, "--only", "dense")
    cluster.ask("scancel", training(project, cluster))
    finish(process, expect=1)
    (record,) = project.records()
    assert (record["status"], record["error"]["kind"]) == ("interrupted", "cancelled")
    run(project, "--only", "dense")
    resumed_at_the_end(project)


def cancelled_by_its_verb(cluster: SlurmCluster, folder: Path) -> None:
    """Status tells where a cell stands with no driver alive, and cancel ends it."""
    project = new(folder)
    assert "2 jobs submitted" in run(project, "--detach")
    wait(lambda: re.search(r"running .* step \d+", project.run("status")), _PATIENCE_S)
    assert "2 jobs cancelled" in project.run("cancel")
    wait(lambda: not cluster.jobs(), 60)
    assert "running" not in project.run("status")


def requeued(cluster: SlurmCluster, folder: Path) -> None:
    """The driver waits through it; the second attempt goes on from the first."""
    project = new(folder)
    process = start(project, "--only", "dense")
    cluster.ask("scontrol", "requeue", training(project, cluster))
    finish(process)
    assert statuses(project) == ["interrupted", "ok"]
    resumed_at_the_end(project)


def preempted(cluster: SlurmCluster, folder: Path) -> None:
    """As if requeued."""
    project = new(folder)
    process = start(project, "--only", "dense")
    node = cluster.ask("squeue", "--noheader", f"--jobs={training(project, cluster)}", "--format=%N").strip()
    for name in cluster.names:
        cluster.ask(
            "sbatch", "-p", "urgent", "-w", name, "-n", str(cluster.cpus), "-o", "/dev/null", "--wrap", "sleep 4"
        )
    assert node in cluster.names
    finish(process)
    assert statuses(project) == ["interrupted", "ok"]
    resumed_at_the_end(project)


def scheduler_killed(cluster: SlurmCluster, folder: Path) -> None:
    """Its worker ends with it, the driver writes what is lost, and the next run goes on."""
    project = new(folder)
    process = start(project, "--only", "dense")
    job = training(project, cluster)
    (worker,) = project.workers()
    (scheduler,) = [pid for pid in cluster.processes(job) if b"--cell" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(scheduler, signal.SIGKILL)
    assert gone(worker)
    finish(process, expect=1)
    (lost,) = project.folder.glob("results/toys/*/*/attempt-1/lost.json")
    assert json.loads(lost.read_text())["status"] == "crash"
    run(project, "--only", "dense")
    resumed_at_the_end(project)


def driver_killed(cluster: SlurmCluster, folder: Path) -> None:
    """Its jobs go on, and the next driver takes them over: nothing is started twice."""
    project = new(folder)
    process = start(project)
    wait(project.checkpoints, _PATIENCE_S)
    process.kill()
    process.communicate()
    assert "taken over" in run(project)
    assert statuses(project) == ["ok", "ok"]


def two_drivers(cluster: SlurmCluster, folder: Path) -> None:
    """Where a lock does not reach, Slurm sees to it that each cell is trained once."""
    project = new(folder)
    first = start(project)
    wait(lambda: cluster.jobs(), _PATIENCE_S)
    (project.folder / "results" / "toys" / ".lock").unlink()  # as on another machine without shared locks
    second = start(project)
    finish(first)
    finish(second)
    assert statuses(project) == ["ok", "ok"]
    assert len(list(project.folder.glob("results/toys/*/*/attempt-*"))) == 2


def other_code(cluster: SlurmCluster, folder: Path) -> None:
    """A node with another nmbench trains nothing, and says which it has."""
    project = new(folder, train="{}")
    shutil.copytree(ROOT / "nmbench", folder / "other" / "nmbench", ignore=shutil.ignore_patterns("__pycache__"))
    changed = folder / "other" / "nmbench" / "worker" / "signs.py"
    changed.write_text(changed.read_text() + "# of another day\n")
    run(project, "--only", "dense", "--engine", f"export=ALL,PYTHONPATH={folder / 'other'}", expect=1)
    (record,) = project.records()
    assert record["status"] == "invalid"
    assert "where the cell was submitted" in record["error"]["message"]


def time_limit(cluster: SlurmCluster, folder: Path) -> None:
    """The cell ends before the limit, and is submitted again as long as it comes further."""
    project = new(folder, train="{ pause = 4.0, steps = 25, save_every = 2 }")
    run(project, "--only", "dense", "--engine", "time=2")
    *first, last = sorted(project.records(), key=lambda it: it["attempt"])
    assert first
    assert {(record["status"], record["error"]["kind"]) for record in first} == {("interrupted", "time limit")}
    assert (last["status"], last["timings"]["resumed"]) == ("ok", True)


def node_cut_off(cluster: SlurmCluster, folder: Path) -> None:
    """The old worker ends once its successor has the work folder, and nothing is torn."""
    project = new(folder, train="{ pause = 1.5, steps = 60 }")
    process = start(project, "--only", "dense")
    job = training(project, cluster)
    node = cluster.ask("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    (worker,) = project.workers()
    os.kill(cluster.pid(f"slurmd.{node}"), signal.SIGKILL)
    try:
        wait(lambda: list(project.folder.glob("work/toys/*/attempt-2/heartbeat.json")), _PATIENCE_S)
        wait(lambda: not Path(f"/proc/{worker}").exists(), 60)
        finish(process)
    finally:
        cluster.node(node)
    assert statuses(project) == ["interrupted", "ok"]
    resumed_at_the_end(project)


def controller_gone(cluster: SlurmCluster, folder: Path) -> None:
    """The driver says so once and goes on."""
    project = new(folder)
    process = start(project)
    wait(project.checkpoints, _PATIENCE_S)
    os.kill(cluster.pid("slurmctld"), signal.SIGKILL)
    time.sleep(20)
    cluster.controller()
    out = finish(process)
    assert statuses(project) == ["ok", "ok"]
    assert out.count("wait   slurm:") == 1, out


def full_disk(cluster: SlurmCluster, folder: Path) -> None:
    """The run waits, names the folder, and goes on when there is room."""
    project = new(folder, train="{}")
    results = project.folder / "results"
    results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(results)], check=True)
    try:
        (results / "ballast").write_bytes(b"x" * 390_000)
        process = start(project)
        logs = project.folder / "work" / "toys" / "tickets"
        wait(lambda: any("no room is left in" in log.read_text() for log in logs.glob("*.log")), _PATIENCE_S)
        (results / "ballast").unlink()
        finish(process)
        assert "ok" in statuses(project)
        assert project.run("status").endswith("2 cells: 2 ok\n")
    finally:
        subprocess.run(["umount", "-l", str(results)], check=False)


def ranks_over_nodes(cluster: SlurmCluster, folder: Path) -> None:
    """A cell of two ranks, one on each of two nodes, has the loss that two ranks on one machine have."""
    project, plain = (new(folder, name, train="{ gpus = 2 }") for name in ("p", "local"))
    for it in (project, plain):
        file = it.folder / "toys.toml"
        file.write_text(file.read_text().replace('"toy"', '"ranked"'))
    run(project, "--only", "dense", "--engine", "nodes=2", "--engine", "cpus-per-task=1", "--engine", "time=20")
    finish(plain.start("run", "--only", "dense", "--device", "cpu"))
    there, here = project.ok("dense"), plain.ok("dense")
    assert there["facts"]["ranks"] == 2
    assert there["metrics"] == here["metrics"]


def engines_of_tasks(cluster: SlurmCluster, folder: Path) -> None:
    """Fabric and mmengine know a Slurm job by its variables, and must not take a cell for one of its tasks."""
    alone = "one", '["classification", "detection"]', "{}"
    for name, tasks, train in (alone, ("two", '["detection"]', "{ gpus = 2 }")):
        project = new(folder, name, train=train, pattern='"dense"', method='"dense"')
        file = project.folder / "toys.toml"
        file.write_text(file.read_text().replace('["toy"]', tasks))
        run(project, "--engine", "ntasks=2")
        assert set(statuses(project)) == {"ok"}, [record.get("error") for record in project.records()]


def stale_folder(cluster: SlurmCluster, folder: Path) -> None:
    """Each node has a cache of ten seconds, and locks do not reach: nothing is lost or overwritten."""
    project = new(folder, train="{}", method='["sr-ste", "asp"]')
    views = [folder / f"view-{name}" for name in cluster.names]
    cached = "attr_timeout=10,entry_timeout=10,negative_timeout=10"
    try:
        for name, view in zip(cluster.names, views, strict=True):
            view.mkdir()
            subprocess.run(["bindfs", "-o", cached, str(project.folder), str(view)], check=True)
            cluster.end_node(name)
            cluster.node(name, view, project.folder)
        cluster.until_idle()
        run(project, "--engine", "settle=20")
        assert statuses(project) == ["ok"] * 3
        assert not list(project.folder.rglob("lost.json"))
        assert len(list(project.folder.glob("results/toys/*/*/attempt-*"))) == 3
    finally:
        for name, view in zip(cluster.names, views, strict=True):
            cluster.end_node(name)
            subprocess.run(["umount", "-l", str(view)], check=False)
            cluster.node(name)


QUICK: tuple[Story, ...] = (
    all_cells, packed, cancelled_by_hand, cancelled_by_its_verb, requeued, scheduler_killed, driver_killed, other_code,
)  # fmt: skip
SLOW_STORIES: tuple[Story, ...] = (
    ranks_over_nodes, engines_of_tasks, two_drivers, preempted, time_limit, node_cut_off, controller_gone, full_disk,
    stale_folder,
)  # fmt: skip


@contextlib.contextmanager
def own_folder(folder: Path):
    """Removed afterwards, where the story went well."""
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
