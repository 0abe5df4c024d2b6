"""What happens to cells on a real Slurm: each function is one story, with what must hold at its end.

QUICK is run by test_slurm.py; those of long_scenarios.py too by `python tests/campaign/cluster.py`.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from project import Project, gone, wait
from slurm_cluster import SlurmCluster

Story = Callable[[SlurmCluster, Path], None]

ON = ("--device", "cpu", "--on", "slurm", "--engine", "settle=3", "--engine", "poll=2")
LIMIT = ("--engine", "time=20")
SLOW = "{ pause = 0.3, steps = 60 }"
PATIENCE_S = 900.0
ROOT = Path(__file__).resolve().parents[2]


def start(project: Project, *more: str) -> "subprocess.Popen[str]":
    """`nmbench run` on Slurm, for a matrix of toys."""
    return project.start("run", *ON, *(() if "time=2" in more else LIMIT), *more)


def finish(process: "subprocess.Popen[str]", expect: int = 0) -> str:
    """What it printed."""
    out, _ = process.communicate(timeout=PATIENCE_S)
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
    wait(project.checkpoints, PATIENCE_S)
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
    wait(lambda: re.search(r"running .* step \d+", project.run("status")), PATIENCE_S)
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
    wait(project.checkpoints, PATIENCE_S)
    process.kill()
    process.communicate()
    assert "taken over" in run(project)
    assert statuses(project) == ["ok", "ok"]


@contextlib.contextmanager
def seen_through(cluster: SlurmCluster, views: Mapping[str, Path], share: Path) -> Iterator[None]:
    """Each node sees the view of its name in place of `share`."""
    try:
        for name, view in views.items():
            cluster.end_node(name)
            cluster.node(name, view, share)
        cluster.until_idle()
        yield
    finally:
        for name in views:
            cluster.end_node(name)
            cluster.node(name)
        cluster.until_idle()


def unlike_nodes(cluster: SlurmCluster, folder: Path) -> None:
    """Nodes that do not see the study, or not the environment: the first record says so."""
    project, empty = new(folder, train="{}"), folder / "empty"
    empty.mkdir()
    for share, words in ((project.folder, "do the nodes see this folder?"), (Path(sys.prefix), "its log ends: ")):
        with seen_through(cluster, dict.fromkeys(cluster.names, empty), share):
            run(project, "--only", "dense", expect=1)
        *_, lost = sorted(project.folder.glob("results/toys/*/*/attempt-*/lost.json"))
        message = json.loads(lost.read_text())["error"]["message"]
        assert words in message, message
        assert "\n" not in message


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


QUICK: tuple[Story, ...] = (
    all_cells, packed, cancelled_by_hand, cancelled_by_its_verb, requeued, scheduler_killed, driver_killed, other_code,
    unlike_nodes,
)  # fmt: skip


@contextlib.contextmanager
def own_folder(folder: Path):
    """Removed afterwards, where the story went well."""
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
