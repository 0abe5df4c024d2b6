"""Every way in which a cell can end is a record with its kind, and the rest of the matrix goes on."""

import shutil
import time
from pathlib import Path

import pytest

KINDS = {
    "data": ("data", "toy data are missing"),
    "error": ("error", "ValueError: the seventh step is unlucky"),
    "nan": ("nan", "the training loss is nan at step 8"),
    "oom": ("oom", "no room for the toy"),
    "diverged": ("diverged", "the loss is hopeless"),
    "skipped": ("skipped", "not on this machine"),
    "crash": ("crash", "ended with exit status 3"),
    "signal": ("crash", "killed by signal 11"),
    "no metric": ("invalid", "did not return the declared metric 'loss'"),
    "break pattern": ("invalid", "the metric 'accuracy' is nan"),
    "bad note": ("invalid", "its record holds a value that cannot be written: PydanticSerializationError"),
    "nan fact": ("invalid", "the fact 'secret' is nan"),
}


def test_each_kind_of_failure_is_told_and_does_not_stop_the_others(project):
    kinds = ", ".join(f'"{kind}"' for kind in KINDS)
    project.matrix(train=f'{{ fail = ["", {kinds}] }}')
    out = project.run("run", "--only", "dense", expect=1)
    assert f"1 done now, 0 before, {len(KINDS)} failed" in out
    by_fail = {r["cell"]["train"].get("fail", ""): r for r in project.records()}
    assert by_fail[""]["status"] == "ok"
    for fail, (status, message) in KINDS.items():
        assert by_fail[fail]["status"] == status, fail
        assert message in by_fail[fail]["error"]["message"], fail
        assert "\n" not in by_fail[fail]["error"]["message"]


def test_a_hang_is_ended(project):
    project.matrix(train='{ fail = "hang" }')
    project.run("run", "--only", "dense", "--hang", "5", expect=1)
    (record,) = project.records()
    assert record["status"] == "hang"


def test_a_thread_that_outlives_the_record_does_not_keep_the_slot(project):
    project.matrix(train='{ fail = "thread" }')
    begun = time.monotonic()
    assert "1 done now" in project.run("run", "--only", "dense")
    assert time.monotonic() - begun < 90, "the thread lasts for 200 s"


def test_a_timeout_is_kept(project):
    project.matrix(train="{ pause = 1.0, steps = 500 }")
    project.run("run", "--only", "dense", "--timeout", "6", expect=1)
    (record,) = project.records()
    assert record["status"] == "timeout"
    assert record["error"]["message"] == "it took more than 6 s"


def test_a_fault_of_the_surroundings_costs_no_training(project):
    project.matrix(train='{ fail = "disk" }')
    project.run("run", "--only", "dense", expect=1)
    assert project.records()[0]["error"]["message"] == "OSError: [Errno 28] No space left on device"
    project.run("run", "--only", "dense")
    assert project.ok("dense")["timings"]["resumed"] is True


def test_folders_in_the_place_of_the_runs_own_files_stop_nothing(project):
    project.run("run", "--only", "dense")
    (record,) = project.records()
    shutil.rmtree(project.folder / "results")
    for name in ("job.json", "heartbeat.json", "validity.json"):
        (project.folder / "work" / "toys" / record["cell_id"] / "attempt-1" / name / "x").mkdir(parents=True)
    project.run("run", "--only", "dense")


def test_rerun_takes_one_kind_only(project):
    project.matrix(train='{ fail = ["data", "error"] }')
    project.run("run", "--only", "dense", expect=1)
    out = project.run("run", "--only", "dense", "--rerun", "data", expect=1)
    assert "1 cells to run" in out
    assert "nothing to do" in project.run("run", "--only", "dense", "--rerun", "nan")


def test_stale_takes_what_was_done_with_other_code_or_data(project):
    own = project.folder / "own"
    own.mkdir()
    source = (Path(__file__).parent.parent / "plugins" / "toy.py").read_text()
    (own / "toy.py").write_text(source)
    stale = ("--only", "dense", "--rerun", "stale", "--plugins", "own")
    project.run("run", "--only", "dense", "--plugins", "own")
    assert "nothing to do" in project.run("run", *stale)
    (own / "toy.py").write_text(source.replace('b"toy"', 'b"other toys"'))
    assert "1 done now" in project.run("run", *stale)
    assert "nothing to do" in project.run("run", *stale)
    first, second = project.records()
    assert first["data"]["fingerprint"] != second["data"]["fingerprint"]
    assert first["environment"]["code"] != second["environment"]["code"]


@pytest.mark.parametrize("broken", ["{", '{"schema_version": 99}'])
def test_a_broken_record_is_not_believed(trained, broken):
    (path,) = trained.folder.glob("results/toys/toy/*dense*/attempt-1/record.json")
    path.write_text(broken)
    assert "1 unreadable" in trained.run("status", "--only", "dense")
    assert "1 done now" in trained.run("run", "--only", "dense")
    assert path.read_text() == broken  # what was there is not touched
