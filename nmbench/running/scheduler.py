"""Which cell runs when: order, slots, twins before those that take them over, and a record for every ending.

The scheduler imports no task and no torch, and knows nothing of processes: an executor runs the cells.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench.plan.catalogue import Catalogue
from nmbench.plan.cell import Cell
from nmbench.records.attempt import RECORD, read_record
from nmbench.records.schema import Record, UnreadableRecord
from nmbench.records.store import Overtaken, Store
from nmbench.running.executor import Ending, Executor
from nmbench.running.job import TrainingJob
from nmbench.running.order import Codes, Options, Queue, first_phase, head, ranks, wants_twin
from nmbench.running.outcome import died, other_code, overtaken, refused, unwritten
from nmbench.running.room import Room, lacked_room
from nmbench.running.stops import listening

if TYPE_CHECKING:  # it shows things by rich
    from nmbench.running.progress import Progress

_log = logging.getLogger("nmbench.running")

_BEAT_S = 0.5  # between two looks at the heartbeats; the end of a cell is seen at once


class Scheduler:
    """Runs a list of cells of one store. written: called with each attempt folder that has its record."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        options: Options,
        progress: Progress,
        executor: Executor,
        written: Callable[[Path], None] = lambda attempt: None,
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self.options = options
        self.progress = progress
        self.executor = executor
        self.written = written
        self._running: dict[str, TrainingJob] = {}
        self._records: list[Record] = []
        self._room = Room([store.folder, store.work])
        self._full: Path | None = None  # the folder that is told to be full
        methods = catalogue.methods.items()
        self._starts_dense = {name for name, it in methods if it.declaration and it.declaration.starts_dense}
        self._code = Codes(catalogue)
        self._asked_to_stop = 0  # by which signal

    # -- the loop -----------------------------------------------------------------------------------------------
    def run(self, cells: list[Cell]) -> list[Record]:
        """Run all cells; their records.

        Signals (nmbench.running.stops) end the workers, write their records and raise KeyboardInterrupt. They are noted
        and acted on between two looks, since an exception in the middle of a start could lose a worker from sight.
        """
        queue = Queue(cells, self.options.alone, self._starts_dense)
        slots = self.executor.open(sum(ranks(cell, self.catalogue.tasks[cell.task]) for cell in cells))
        self.progress.begin(len(cells), slots, self.executor.threads)
        with listening(self._note):
            try:
                while queue or self._running:
                    if self._asked_to_stop:
                        self.executor.stop(self._running, self._asked_to_stop)
                        self._look(queue, 0.0)
                        raise KeyboardInterrupt
                    if not self._waits():
                        self._fill(queue, slots)
                    self._look(queue, _BEAT_S)
            finally:
                self.executor.close()
                self.progress.close()
        return self._records

    def _note(self, number: int) -> None:
        self._asked_to_stop = number

    def _waits(self) -> bool:
        """Nothing is to start on a full disk; said once each time."""
        full = self._room.full()
        if full is not None and full != self._full:
            self.progress.waits(f"no room is left in {full}: cells wait until there is some; Ctrl-C ends the run")
        self._full = full
        return full is not None

    def _fill(self, queue: Queue, slots: int) -> None:
        """Start what may start and has room."""
        free = slots - sum(job.slots for job in self._running.values())
        while free and not self._asked_to_stop and (cell := queue.first()) is not None:
            alone = cell.id in self.options.alone
            wanted = slots if alone else min(ranks(cell, self.catalogue.tasks[cell.task]), slots)
            if self.catalogue.tasks[cell.task].usable and free < wanted:
                return  # a cell of several ranks waits for its turn rather than being overtaken for ever
            queue.take()
            try:
                started = self._start(cell, wanted)
            except OSError as error:
                if lacked_room(error) and self._room.lacked():
                    queue.put_back(cell)
                    return
                self._ended(cell, unwritten(self._head(cell, 1), error), 0.0)
                started = False
            if started:
                free -= wanted
            else:
                queue.ended(cell)

    def _look(self, queue: Queue, wait_s: float) -> None:
        """Wait for news, show heartbeats, collect what has ended."""
        if not self._running and queue:
            time.sleep(wait_s)
        for handle, fate in self.executor.poll(list(self._running), wait_s).items():
            cell = self._running[handle].cell
            if fate.beat is not None:
                self.progress.beat(cell, fate.beat)
            if fate.ending is not None:
                if self._collect(self._running.pop(handle), fate.ending):
                    queue.ended(cell)
                else:
                    queue.put_back(cell)

    # -- one cell -----------------------------------------------------------------------------------------------
    def _start(self, cell: Cell, slots: int) -> bool:
        """Start the cell; False if it ended at once, with a record. Raises OSError."""
        plugin, code = self.catalogue.tasks[cell.task], self._code(cell)
        number, attempt = self.store.new_attempt(cell)
        record = self._head(cell, number)
        expected = self.options.codes.get(cell.id, code)
        if expected != code:
            return self._refuse(other_code(record, code, expected), attempt)
        if not plugin.usable:
            return self._refuse(refused(record, plugin, code, self.executor.device), attempt)
        try:
            job = self._job(record, attempt, code, slots)
        except Overtaken:
            return self._refuse(overtaken(record), attempt)
        self._running[self.executor.start(job)] = job
        self.progress.started(cell)
        return True

    def _refuse(self, record: Record, attempt: Path) -> bool:
        self._write(record, attempt)
        self._ended(record.cell, record, 0.0, attempt)
        return False

    def _head(self, cell: Cell, attempt: int) -> Record:
        return head(cell, attempt, self.catalogue.tasks[cell.task], self.store.matrix, self.options.command)

    def _job(self, record: Record, attempt: Path, code: str, slots: int) -> TrainingJob:
        cell = record.cell
        work = self.store.take_work(cell, record.attempt)
        if record.attempt > 1 and self.store.state(cell).done:
            self.store.drop_work(work)  # of a training that is over; it is to begin again
            work.mkdir(parents=True)
        twin = wants_twin(cell, self._starts_dense)
        return TrainingJob(
            cell=cell,
            record=record,
            reference=self.catalogue.tasks[cell.task].reference,
            attempt_dir=attempt.absolute(),
            work_dir=work,
            data_dir=self.options.data.absolute(),
            device=self.executor.device,
            ranks=ranks(cell, self.catalogue.tasks[cell.task]),
            slots=slots,
            init=cell.init.path if cell.init else None,
            first_phase=first_phase(cell, self.store, self._code(cell.twin)) if twin else None,
            code=code,
            trace=self.options.trace,
        )

    def _collect(self, job: TrainingJob, ending: Ending) -> bool:
        """Read the record of an attempt that is over, or write one for it; False if it is to start again.

        That is so where the disk was full: what the attempt did is kept, and goes on when there is room.
        """
        outcome: Record | OSError
        try:
            record = outcome = read_record(job.attempt_dir / RECORD)
        except UnreadableRecord:
            record = died(job.record, ending, job.code, self.executor.device)
            outcome = self._write(record, job.attempt_dir) or record
        if lacked_room(outcome) and not self._asked_to_stop and self._room.lacked():
            return False
        self._ended(job.cell, record, ending.seconds, job.attempt_dir)
        if not record.status.resumable:
            self.store.drop_work(job.work_dir)
        return True

    def _write(self, record: Record, attempt: Path) -> OSError | None:
        """Write the record of a cell that wrote none. Where that fails, the cell is told all the same."""
        try:
            record.write(attempt / RECORD)
        except OSError as error:
            _log.warning("the record of %s could not be written: %s", record.cell.label, error)
            return error
        return None

    def _ended(self, cell: Cell, record: Record, seconds: float, attempt: Path | None = None) -> None:
        self._records.append(record)
        self.progress.ended(cell, record, seconds)
        if attempt is not None:
            self.written(attempt)
