"""The scheduler's policy, with an executor that runs nothing: order, slots, and a record for every ending."""

import errno
import shutil
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from nmbench._util.settings import Settings
from nmbench.plan.catalogue import Catalogue
from nmbench.plan.cell import Cell
from nmbench.plan.declarations import MethodDeclaration, Plugin, TaskDeclaration
from nmbench.records.attempt import RECORD, read_record
from nmbench.records.schema import Environment, Failure, Record, Status
from nmbench.records.store import Store
from nmbench.running.executor import Cause, Ending, Fate
from nmbench.running.job import NO_ROOM, OVERTAKEN, Beat, TrainingJob
from nmbench.running.order import Options, Queue
from nmbench.running.progress import Progress
from nmbench.running.scheduler import Scheduler
from nmbench.sparsity.pattern import NMPattern

PATTERN = NMPattern(2, 4)
DENSE = Cell("toy", "mlp", "smoke")
ASP = Cell("toy", "mlp", "smoke", PATTERN, "asp")
STE = Cell("toy", "mlp", "smoke", PATTERN, "ste")
RANKED = Cell("toy", "mlp", "smoke", PATTERN, "ste", train={"gpus": 2})


class Pretended:
    """An executor whose cells end at the next look, in the way that `ends` says; it notes what it was asked."""

    device = "cpu"
    threads = 1

    def __init__(self, ends: Callable[[TrainingJob], Ending | None] = lambda job: None, slots: int = 1) -> None:
        self.ends, self.slots = ends, slots
        self.jobs: dict[str, TrainingJob] = {}
        self.started: list[tuple[str, int]] = []

    def open(self, processes: int) -> int:
        return min(self.slots, processes)

    def start(self, job: TrainingJob) -> str:
        self.started.append((job.cell.label, job.slots))
        handle = str(len(self.started))
        self.jobs[handle] = job
        return handle

    def poll(self, handles: Collection[str], wait_s: float) -> dict[str, Fate]:
        return {handle: Fate(Beat(step=1), self._end(self.jobs.pop(handle))) for handle in handles}

    def _end(self, job: TrainingJob) -> Ending:
        ending = self.ends(job)
        if ending is None:
            environment = Environment(code=job.code)
            job.record.model_copy(update={"status": Status.OK, "environment": environment}).write(
                job.attempt_dir / RECORD
            )
        return ending or Ending(Cause.EXIT)

    def stop(self, handles: Collection[str], number: int) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def schedule(tmp_path: Path) -> Callable[..., list[Record]]:
    scales = {"smoke": Settings.declared({"gpus": 1})}
    declaration = TaskDeclaration(name="toy", metrics=(), models=("mlp",), scales=scales)
    asp = MethodDeclaration(settings=Settings.declared({}), phases=2, starts_dense=True)
    method = Plugin("asp", "asp:ASP", "asps", "1", declaration=asp)
    plugin = Plugin("toy", "toy:Toy", "toys", "1", declaration=declaration)

    def run(executor: Pretended, *cells: Cell, progress: Progress | None = None, **options: Any) -> list[Record]:
        store = Store(tmp_path / "results", "toys")
        chosen = Options(command="nmbench run toys", **options)
        known = Catalogue({"toy": plugin}, {"asp": method}, [])
        return Scheduler(store, known, chosen, progress or Progress(), executor).run(list(cells))

    return run


def test_a_cell_that_takes_over_its_twins_training_waits_for_it(schedule, tmp_path):
    executor = Pretended(slots=4)
    schedule(executor, ASP, STE, DENSE)
    assert [label for label, _ in executor.started] == [STE.label, DENSE.label, ASP.label]
    (record,) = [r for r in tmp_path.rglob(RECORD) if "asp" in str(r)]
    assert read_record(record).status is Status.OK


def test_a_cell_that_is_to_be_alone_goes_first_and_takes_all_slots(schedule):
    executor = Pretended(slots=3)
    schedule(executor, STE, RANKED, DENSE, alone=frozenset([DENSE.id]))
    assert executor.started == [(DENSE.label, 3), (STE.label, 1), (RANKED.label, 2)]


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        (
            Ending(Cause.EXIT, 3, last_line="bye"),
            "crash",
            "ended with exit status 3 and no record; it last printed: bye",
        ),
        (Ending(Cause.SIGNAL, 9), "crash", "was killed by signal 9 (out of memory?)"),
        (Ending(Cause.TIMEOUT, 6), "timeout", "it took more than 6 s"),
        (Ending(Cause.HANG, 5), "hang", "no sign of life for 5 s"),
        (Ending(Cause.STOPPED), "interrupted", "stopped by Ctrl-C"),
        (Ending(Cause.STOPPED, signal.SIGHUP), "interrupted", "stopped because its terminal was closed"),
        (Ending(Cause.EXIT, OVERTAKEN), "interrupted", "another run took the cell over"),
    ],
)
def test_an_ending_without_a_record_becomes_one(schedule, tmp_path, ending, status, message):
    (record,) = schedule(Pretended(lambda job: ending), DENSE)
    (path,) = tmp_path.rglob(RECORD)
    assert read_record(path).status == record.status == status
    assert record.error.message.endswith(message)


def test_a_cell_that_was_submitted_with_other_code_is_not_run(schedule):
    executor = Pretended()
    (record,) = schedule(executor, DENSE, codes={DENSE.id: "another"})
    assert record.status == "invalid"
    assert "another where the cell was submitted" in record.error.message
    assert not executor.started


def test_a_cell_that_cannot_be_written_is_told_and_the_rest_goes_on(schedule, tmp_path):
    blocked = tmp_path / "results" / "toys" / DENSE.folder
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the folder of the cell should be")
    first, second = schedule(Pretended(), DENSE, STE)
    assert (first.status, second.status) == ("error", "ok")
    assert first.cell == DENSE


class Waiting(Progress):
    """Room is made as soon as it is asked for."""

    def __init__(self, disk: list[int]) -> None:
        super().__init__()
        self.disk, self.told = disk, []

    def waits(self, why: str) -> None:
        self.told.append(why)
        self.disk[0] += 2**20


@pytest.fixture
def disk(monkeypatch):
    """[free bytes], which a test may change."""
    free = [0]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=free[0]))
    monkeypatch.setattr("nmbench.running.scheduler._BEAT_S", 0.01)
    return free


def _no_room(job: TrainingJob) -> None:
    """The first attempt finds none."""
    if job.record.attempt == 1:
        failure = Failure(kind="OSError", message="OSError: [Errno 28] No space left on device")
        failed = {"status": Status.ERROR, "error": failure}
        job.record.model_copy(update=failed).write(job.attempt_dir / RECORD)


def test_on_a_full_disk_the_run_waits_says_where_and_goes_on(schedule, disk, tmp_path):
    progress = Waiting(disk)
    executor = Pretended(lambda job: _no_room(job) or (Ending(Cause.EXIT) if job.record.attempt == 1 else None))
    first, second = schedule(executor, DENSE, ASP, progress=progress)
    assert (first.cell, first.status, first.attempt) == (DENSE, "ok", 2)
    assert (second.cell, second.status) == (ASP, "ok")  # it waited for its twin all the same
    assert len(progress.told) == 2
    assert str(tmp_path) in progress.told[0]


def test_a_cell_that_cannot_even_start_on_a_full_disk_waits_too(schedule, disk, tmp_path):
    class Full(Pretended):
        def start(self, job: TrainingJob) -> str:
            if disk[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device", str(job.work_dir))
            return super().start(job)

    (record,) = schedule(Full(), DENSE, progress=Waiting(disk))
    assert record.status == "ok"


def test_a_worker_whose_record_found_no_room_starts_again_though_some_was_made_since(schedule, disk, monkeypatch):
    monkeypatch.setattr("nmbench.running.room._FIRST_S", 0.1)
    monkeypatch.setattr("nmbench.running.room._MORE", 2**30)  # more than is ever made
    disk[0] = 2**30
    progress = Waiting([0])
    executor = Pretended(lambda job: Ending(Cause.EXIT, NO_ROOM) if job.record.attempt == 1 else None)
    (record,) = schedule(executor, DENSE, progress=progress)
    assert (record.status, record.attempt, len(progress.told)) == ("ok", 2, 1)


def test_where_there_is_room_a_cell_that_found_none_has_failed(schedule, disk):
    disk[0] = 2**40
    (record,) = schedule(Pretended(lambda job: _no_room(job) or Ending(Cause.EXIT)), DENSE)
    assert record.status == "error"


def test_many_cells_are_ordered_in_a_moment():
    cells = [Cell("toy", "mlp", "smoke", PATTERN, "asp", seed) for seed in range(2000)]
    cells += [cell.twin for cell in cells]
    begun = time.process_time()
    queue = Queue(cells, frozenset(), frozenset(["asp"]))
    order = []
    while (cell := queue.first()) is not None:
        queue.take()
        order.append(cell)
        queue.ended(cell)
    assert len(order) == 4000
    assert [cell.method for cell in order[:4]] == ["dense", "asp", "dense", "asp"]
    assert time.process_time() - begun < 5, "it was quadratic: minutes"
