"""Records on disk: whole or not there."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from nmbench._util.errors import UsageError
from nmbench._util.files import write_json
from nmbench.contract.data import made_once
from nmbench.plan.cell import Cell
from nmbench.records.attempt import overtaken, read_record
from nmbench.records.frame import load
from nmbench.records.reading import parse
from nmbench.records.schema import SCHEMA_VERSION, Status, UnreadableRecord
from nmbench.records.store import NoRecord, Overtaken, Store
from nmbench.sparsity import NMPattern

CELL = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "ste")


def _record(status="ok", **more):
    return {"schema_version": SCHEMA_VERSION, "cell": CELL.to_dict(), "cell_id": CELL.id, "status": status, **more}


def _attempt(store, status=None):
    number, path = store.new_attempt(CELL)
    if status:
        write_json(path / "record.json", _record(status))
    return number


def test_attempts_are_numbered_and_never_shared(tmp_path):
    store = Store(tmp_path, "m")
    assert [_attempt(store) for _ in range(11)] == list(range(1, 12))


def test_an_attempt_without_record_is_unfinished(tmp_path):
    store = Store(tmp_path, "m")
    assert store.state(CELL).status == "new"
    _attempt(store)
    assert store.state(CELL).status == "unfinished"


def test_done_stays_done_and_failed_is_not_done(tmp_path):
    store = Store(tmp_path, "m")
    _attempt(store, "crash")
    assert store.state(CELL).status == "crash"
    assert not store.state(CELL).done
    _attempt(store, "ok")
    _attempt(store, "nan")
    assert store.state(CELL).status == "ok"
    assert store.state(CELL).attempts == 3


@pytest.mark.parametrize(
    "change",
    [{}, {"curve": {"step": ["x"]}}, {"metrics": {"a": "x"}}, {"error": {"message": "no"}}, {"status": "odd"}],
)
def test_in_brief_a_cell_is_what_it_is_in_full(tmp_path, change):
    store = Store(tmp_path, "m")
    _, path = store.new_attempt(CELL)
    write_json(path / "record.json", _record("oom", metrics={"a": 1}, metric_info=[{"name": "a"}]) | change)
    brief, full = store.state(CELL, brief=True), store.state(CELL)
    told = (full.status, full.cell, full.attempts, full.path, full.record.outcome if full.record else "")
    assert (brief.status, brief.cell, brief.attempts, brief.path, brief.outcome) == told
    assert full.outcome == brief.outcome


def test_the_record_of_another_cell_is_not_believed(tmp_path):
    store = Store(tmp_path, "m")
    _, path = store.new_attempt(CELL)
    write_json(path / "record.json", _record() | {"cell_id": "0" * 16})
    for state in (store.state(CELL), store.state(CELL, brief=True)):
        assert (state.status, state.outcome, state.recorded) == ("unreadable", "", False)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(UnreadableRecord, match="not a regular file"):
        read_record(tmp_path / "record.json")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("victim.txt")])
def test_a_lock_that_is_no_file_is_neither_opened_nor_followed(tmp_path, make):
    store = Store(tmp_path, "m")
    store.folder.mkdir()
    (store.folder / "victim.txt").write_text("precious")
    make(store.folder / ".lock")
    with pytest.raises(UsageError, match="no regular file"), store.lock():
        pass
    assert (store.folder / "victim.txt").read_text() == "precious"


def test_a_file_where_the_work_of_a_cell_goes_makes_way(tmp_path):
    store = Store(tmp_path / "results", "m")
    store.work.mkdir(parents=True)
    (store.work / CELL.id).write_text("?")
    assert store.take_work(CELL, 1).is_dir()


def test_resume_state_is_handed_on_and_an_attempt_that_lost_it_is_told(tmp_path):
    store = Store(tmp_path / "results", "m")
    first, second, third = (store.new_attempt(CELL)[0] for _ in range(3))
    work = store.take_work(CELL, first)
    (work / "phase-0").mkdir()
    (work / "phase-0" / "last.pt").write_text("state")
    (work / "phase-0" / ".last.pt.7-aa.tmp").write_text("torn")
    taken = store.take_work(CELL, third)
    assert [path.name for path in (taken / "phase-0").iterdir()] == ["last.pt"]
    assert overtaken(work)
    assert not overtaken(taken)
    with pytest.raises(Overtaken, match="attempt 3"):
        store.take_work(CELL, second)
    store.drop_work(taken)
    assert not overtaken(taken)
    assert store.take_work(CELL, second).is_dir()


def test_resume_state_of_results_that_were_removed_is_nobodys(tmp_path):
    store = Store(tmp_path / "results", "m")
    for _ in range(3):
        work = store.take_work(CELL, store.new_attempt(CELL)[0])
    (work / "mark").write_text("")
    shutil.rmtree(store.folder)
    assert (store.take_work(CELL, store.new_attempt(CELL)[0]) / "mark").exists()


def test_a_record_by_the_worker_counts_whatever_a_driver_wrote_beside_it(tmp_path):
    store = Store(tmp_path / "results", "m")
    number, attempt = store.new_attempt(CELL)
    record = parse(json.dumps(_record()).encode())
    gone = record.model_copy(update={"status": Status.CRASH})
    assert store.state(CELL).status is NoRecord.UNFINISHED
    store.lost(CELL, number, gone)
    assert store.state(CELL).status is Status.CRASH
    assert [it.status for it in load(store.folder).records] == [Status.CRASH]
    record.write(attempt / "record.json")
    assert store.state(CELL).status is Status.OK
    assert [it.status for it in load(store.folder).records] == [Status.OK]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_folder_that_knows_no_locks_gives_none_and_the_run_goes_on(tmp_path, monkeypatch, code):
    def flock(handle: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Store(tmp_path / "results", "m").lock():
        pass
    assert made_once(tmp_path / "data" / "set", {}, lambda folder: {"count": 1})["count"] == 1


def test_a_folder_that_only_looks_like_an_attempt_is_none(tmp_path):
    store = Store(tmp_path, "m")
    for name in ("attempt-\u00b2", "attempt-", "attempt-x", "attempt--1", "attempt-0x1", "attempt-" + "9" * 99):
        (store.folder / CELL.folder / name).mkdir(parents=True)
    assert _attempt(store) == 1


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"metric_info": [], "metrics": None}, ""),
        ({"metric_info": [{"name": "top1"}], "metrics": {"top1": "x"}}, ""),
        ({"metric_info": [{"name": "top1", "unit": "%"}], "metrics": {"top1": 80.25}, "notes": 1}, "top1 80.25 %"),
        ({"status": "oom", "error": None}, ""),
        ({"status": "oom", "error": {"message": "\udcff"}}, ""),
        ({"status": "oom", "error": {"message": "out of\n memory"}}, "out of memory"),
    ],
)
def test_the_outcome_of_an_odd_record_is_one_line(tmp_path, changes, outcome):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(_record() | changes))
    assert read_record(path).outcome == outcome


def test_not_a_number_cannot_be_written(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


WRITER = """
import sys
from pathlib import Path
from nmbench._util.files import write_json
path, i = Path(sys.argv[1]), 0
print("go", flush=True)
while True:
    i += 1
    write_json(path, {"i": i, "filler": "x" * 200_000, "again": i})
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "record.json"
    for pause in (0.01, 0.03, 0.05, 0.08, 0.13):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(pause)
        process.kill()
        process.wait()
        process.stdout.close()
        if path.exists():
            found = json.loads(path.read_text())
            assert found["i"] == found["again"]
            assert len(found["filler"]) == 200_000
    assert path.exists()


def test_the_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from nmbench.records.store import Store\n"
        "with Store(Path(sys.argv[1]), 'm').lock():\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    store = Store(tmp_path, "m")
    with pytest.raises(Exception, match="another `nmbench run m`"), store.lock():
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with store.lock():
        pass
