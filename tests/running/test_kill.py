"""Real kills: nothing finished is lost, nothing half-written is believed, the next run goes on where the last stood."""

import os
import signal
import time
from pathlib import Path

import pytest
from project import wait

PLUGINS = Path(__file__).parent.parent / "plugins"
LONG = "{ steps = 40 }"


def _kill_parent_in_training(project, *arguments: str) -> None:
    """Kill `nmbench run` once a cell has a checkpoint; its workers must end by themselves."""
    project.pause = 0.15
    process = project.start("run", *arguments)
    wait(project.checkpoints)
    assert project.workers()
    process.kill()
    process.wait()
    wait(lambda: not project.workers(), 10)
    project.pause = 0.0


def _uninterrupted(another, method: str, **more):
    plain = another()
    plain.matrix(train=LONG, method=f'"{method}"')
    plain.run("run", "--only", f"2:4 {method}")
    return plain


@pytest.mark.parametrize("method", ["sr-ste", "asp"])
def test_a_killed_worker_resumes_bit_equal(project, another, method):
    project.matrix(train=LONG, method=f'"{method}"')
    project.pause = 0.15
    process = project.start("run", "--only", f"2:4 {method}")
    wait(project.checkpoints)
    (pid,) = project.workers()
    os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert project.records()[0]["status"] == "crash"
    assert "signal 9 (out of memory?)" in out.replace("\n", " ")
    project.pause = 0.0
    project.run("run", "--only", f"2:4 {method}")
    record = project.ok("2:4")
    assert record["attempt"] == 2
    assert record["timings"]["resumed"] is True
    plain = _uninterrupted(another, method)
    assert project.weights("2:4") == plain.weights("2:4")
    expected = plain.ok("2:4")
    for key in ("metrics", "sad", "curve", "audit", "cost"):
        assert record[key] == expected[key], key


def test_a_killed_parent_takes_its_workers_along_and_the_next_run_goes_on(project):
    project.matrix(train=LONG)
    _kill_parent_in_training(project)
    assert project.records() == []
    assert "2 unfinished" in project.run("status")
    out = project.run("run")
    assert "2 done now" in out
    assert [r["attempt"] for r in project.records()] == [2, 2]
    assert any(r["timings"]["resumed"] for r in project.records())


def test_what_a_worker_started_ends_with_a_killed_parent(project):
    project.matrix(train='{ fail = "child" }')
    process = project.start("run", "--only", "dense")
    wait(lambda: project.workers("child"))
    process.kill()
    process.wait()
    wait(lambda: not project.workers("child"), 10)


def test_ctrl_c_ends_cleanly_and_keeps_what_is_done(project):
    project.matrix(train=LONG, seeds="[0, 1]")
    project.pause = 0.1
    process = project.start("run", "--workers", "1")
    wait(lambda: project.records() and not project.checkpoints())
    wait(project.checkpoints)  # of the second cell: the first one's went when it was done
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert time.monotonic() - asked < 10
    assert "run the same command again to go on" in out
    assert not project.workers()
    statuses = [r["status"] for r in project.records()]
    assert statuses.count("ok") >= 1
    (stopped,) = [r for r in project.records() if r["status"] == "interrupted"]
    assert stopped["error"]["kind"] == "ctrl-c"


def test_two_runs_do_not_share_a_folder(project):
    project.pause = 1.0
    process = project.start("run")
    wait(project.workers)
    out = project.run("run", expect=2)
    assert "another `nmbench run toys` is working" in out
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.parametrize("changed", ["the code", "the data"])
def test_what_other_code_or_data_left_behind_is_not_gone_on_with(project, changed):
    own = project.folder / "own"
    own.mkdir()
    source = (PLUGINS / "toy.py").read_text().replace('b"toy"', '(root / "toys.txt").read_bytes()')
    data = project.folder / "data" / "toys.txt"
    data.parent.mkdir()
    data.write_text("toys")
    (own / "toy.py").write_text(source)
    project.matrix(train=LONG)
    _kill_parent_in_training(project, "--only", "dense", "--plugins", "own")
    if changed == "the code":
        (own / "toy.py").write_text(source + "# of another day\n")
    else:
        data.write_text("other toys")
    project.run("run", "--only", "dense", "--plugins", "own")
    record = project.ok("dense")
    assert record["timings"]["resumed"] is False
    assert len(record["curve"]["step"]) == 40


def test_a_damaged_checkpoint_starts_the_cell_again(project, another):
    project.matrix(train=LONG)
    _kill_parent_in_training(project, "--only", "dense")
    (path,) = project.folder.glob("work/toys/*/*/phase-0/last.pt")
    data = path.read_bytes()
    path.write_bytes(data[:900] + b"\xee" * 9 + data[909:])
    project.run("run", "--only", "dense")
    assert project.ok("dense")["timings"]["steps"] == 40
    plain = another()
    plain.matrix(train=LONG)
    plain.run("run", "--only", "dense")
    assert project.weights("dense") == plain.weights("dense")


def test_runs_into_two_results_folders_do_not_meet(project):
    project.pause = 0.1
    runs = [project.start("run", "--results", name) for name in ("a", "b")]
    for process in runs:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    assert len(list(project.folder.glob("[ab]/toys/toy/*/attempt-1/record.json"))) == 4
