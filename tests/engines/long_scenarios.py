"""Stories of a real Slurm that take more than a minute each: `python tests/campaign/cluster.py` runs them."""

import os
import signal
import subprocess
import time
from pathlib import Path

from project import wait
from scenarios import PATIENCE_S, Story, finish, new, resumed_at_the_end, run, seen_through, start, statuses, training
from slurm_cluster import SlurmCluster


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


def two_drivers(cluster: SlurmCluster, folder: Path) -> None:
    """Where a lock does not reach, Slurm sees to it that each cell is trained once."""
    project = new(folder)
    first = start(project)
    wait(lambda: cluster.jobs(), PATIENCE_S)
    (project.folder / "results" / "toys" / ".lock").unlink()  # as on another machine without shared locks
    second = start(project)
    finish(first)
    finish(second)
    assert statuses(project) == ["ok", "ok"]
    assert len(list(project.folder.glob("results/toys/*/*/attempt-*"))) == 2


def detached(cluster: SlurmCluster, folder: Path) -> None:
    """With no driver at all each cell is done once, and ASP after its dense twin; status tells what waits."""
    project = new(folder, train="{}", method='["sr-ste", "asp"]')
    assert "3 jobs submitted" in run(project, "--detach", "--workers", "2")
    assert " waiting " in project.run("status")
    wait(lambda: project.run("status").endswith("3 cells: 3 ok\n"), PATIENCE_S)
    assert statuses(project) == ["ok"] * 3
    assert [bool(record.get("reused")) for record in project.records()].count(True) == 1
    assert not list(project.folder.rglob("lost.json"))


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
        wait(lambda: project.found("work/toys/*/attempt-2/heartbeat.json"), PATIENCE_S)
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
    wait(project.checkpoints, PATIENCE_S)
    os.kill(cluster.pid("slurmctld"), signal.SIGKILL)
    time.sleep(20)
    cluster.controller()
    out = finish(process)
    assert statuses(project) == ["ok", "ok"]
    assert out.count("wait   slurm:") == 1, out


def submit_limit(cluster: SlurmCluster, folder: Path) -> None:
    """A user who may submit two jobs, and has two already: the driver waits, says so once, and does all cells."""
    modify = "sacctmgr", "--immediate", "modify", "user", "root", "set"
    assert "Modified" in (told := cluster.ask(*modify, "MaxSubmitJobs=2")), told
    try:
        wait(lambda: "Limit" in (full := cluster.ask("sbatch", "-o", "/dev/null", "--wrap", "sleep 40")) and full, 30)
        project = new(folder, train="{}", seeds="[0, 1]")
        process, most = start(project), 0
        while process.poll() is None:
            most = max(most, len(cluster.jobs()))
            time.sleep(0.5)
        out = finish(process)
        assert (statuses(project), most) == (["ok"] * 4, 2)
        assert len(list(project.folder.glob("results/toys/*/*/attempt-*"))) == 4
        assert out.count("MaxSubmitJobLimit") == 1, out
    finally:
        cluster.ask(*modify, "MaxSubmitJobs=-1")


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
        wait(lambda: any("no room is left in" in log.read_text() for log in logs.glob("*.log")), PATIENCE_S)
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
    views = {name: folder / f"view-{name}" for name in cluster.names}
    cached = "attr_timeout=10,entry_timeout=10,negative_timeout=10"
    try:
        for view in views.values():
            view.mkdir()
            subprocess.run(["bindfs", "-o", cached, str(project.folder), str(view)], check=True)
        with seen_through(cluster, views, project.folder):
            run(project, "--engine", "settle=20")
        assert statuses(project) == ["ok"] * 3
        assert not list(project.folder.rglob("lost.json"))
        assert len(list(project.folder.glob("results/toys/*/*/attempt-*"))) == 3
    finally:
        for view in views.values():
            subprocess.run(["umount", "-l", str(view)], check=False)


LONG: tuple[Story, ...] = (
    ranks_over_nodes, engines_of_tasks, two_drivers, detached, preempted, time_limit, node_cut_off, controller_gone,
    submit_limit, full_disk, stale_folder,
)  # fmt: skip
