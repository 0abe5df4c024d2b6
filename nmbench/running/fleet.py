"""The driver of cells that run elsewhere: it submits tickets, waits for records, and writes what is lost.

Records are the truth; the engine is asked what became of tickets whose cells have none yet. The driver may be killed at
any moment and started again: tickets that are still there are taken over by their names.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench._util.errors import UsageError
from nmbench.engines.engine import Busy, Engine, Fate, Phase, Ticket, Unreachable
from nmbench.plan.catalogue import Catalogue
from nmbench.plan.cell import Cell
from nmbench.records.attempt import number_of
from nmbench.records.schema import Record, Status
from nmbench.records.store import Store
from nmbench.running.flight import Flight, Terms, Tickets, forget, last_ended, noted
from nmbench.running.losses import Losses, newest_record
from nmbench.running.order import Codes, Options, Queue, head, wants_twin
from nmbench.running.outcome import lost
from nmbench.running.overview import beat_of
from nmbench.running.room import lacked_room
from nmbench.running.stops import listening

if TYPE_CHECKING:  # it shows things by rich
    from nmbench.running.progress import Progress

_log = logging.getLogger("nmbench.running")

_SOON_S = 1.0  # between two looks after something happened; then longer and longer
_LONG_S = 3600.0  # of nothing: then three times as rarely
_MOST_S = 120.0  # between two tries to reach an engine


class Fleet:
    """Runs cells of one store on an engine. written: called with each attempt folder that has its record.

    left: after `run` was stopped by something else than Ctrl-C; its tickets go on.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        options: Options,
        progress: Progress,
        engine: Engine,
        terms: Terms,
        written: Callable[[Path], None] = lambda attempt: None,
    ) -> None:
        self.store, self.catalogue, self.options = store, catalogue, options
        self.progress, self.engine, self.terms, self.written = progress, engine, terms, written
        self.left = False
        self._tickets = Tickets(store, catalogue, terms, options.alone)
        self._codes = Codes(catalogue)
        self._losses = Losses(store)
        self._flights: dict[str, Flight] = {}
        self._there: dict[str, str] = {}  # tickets of an earlier driver: name -> handle
        self._holder: dict[str, str] = {}  # cell id -> name of the ticket of an earlier driver that holds it
        self._ended: dict[str, int] = {}  # of these cells, when that was seen
        self._records: list[Record] = []
        self._stop = 0
        self._trouble = ""  # that was told
        self._told: set[str] = set()  # why tickets cannot start
        self._not_before = 0.0  # nothing is asked until then
        self._pause_s, self._quiet_since = _SOON_S, time.monotonic()

    # -- the loop -----------------------------------------------------------------------------------------------
    def run(self, cells: list[Cell]) -> list[Record]:
        """Run all cells; their records. Raises UsageError where the engine refuses a ticket for good.

        Ctrl-C cancels the tickets and raises KeyboardInterrupt; other signals raise it too, and leave the tickets be.
        """
        queue = self._queue(cells)
        try:
            self._take_stock(cells)
            self.progress.begin(len(cells), self.terms.workers or len(cells), self.terms.cpus)
            with listening(self._note):
                while queue or self._flights:
                    self._leave_if_asked()
                    if time.monotonic() >= self._not_before:
                        self._safely(lambda: self._step(queue))
                    time.sleep(min(_SOON_S, self._pause_s))
        finally:
            self.engine.close()
            self.progress.close()
        return self._records

    def _queue(self, cells: list[Cell]) -> Queue:
        methods = self.catalogue.methods.items()
        starts_dense = {name for name, it in methods if it.declaration and it.declaration.starts_dense}
        self._after_twin = starts_dense
        return Queue(cells, self.options.alone, starts_dense)

    def _take_stock(self, cells: list[Cell]) -> None:
        """What an earlier driver left behind; and does the engine have what is wanted? Raises UsageError."""
        try:
            self._there = self.engine.known(self._tickets.prefix)
        except Unreachable as error:
            raise UsageError(f"{self.engine.name} does not answer, and nothing was submitted: {error}") from None
        notes = noted(self.store)
        for name in self._there:
            for cell_id in notes[name][1] if name in notes else [name.removeprefix(self._tickets.prefix)]:
                self._holder[cell_id] = name
        self._ended = {cell.id: last_ended(self.store, cell) for cell in cells if cell.id in self._holder}
        for name, (engine, _) in notes.items():
            if engine == self.engine.name and name not in self._there:
                forget(self.store, name)
        for needs in {self._tickets.needs([cell]) for cell in cells}:
            self.engine.check(needs)

    def _note(self, number: int) -> None:
        self._stop = number

    def _leave_if_asked(self) -> None:
        if not self._stop:
            return
        self.left = self._stop != signal.SIGINT
        try:
            if not self.left:
                self.engine.cancel([flight.handle for flight in self._flights.values()])
        except Unreachable:
            self.left = True
        raise KeyboardInterrupt

    def _step(self, queue: Queue) -> None:
        self._fill(queue)
        before = len(self._records), len(self._flights)
        if self._flights:
            fates = self.engine.fates([flight.handle for flight in self._flights.values()])
            for flight in list(self._flights.values()):
                self._follow(flight, fates[flight.handle], queue)
        self._trouble = ""
        now = time.monotonic()
        if before != (len(self._records), len(self._flights)):
            self._quiet_since, self._pause_s = now, _SOON_S
        most = self.terms.poll_s * (3 if now - self._quiet_since > _LONG_S else 1)
        self._pause_s = min(most, 1.5 * self._pause_s)
        self._not_before = now + self._pause_s

    def _safely(self, step: Callable[[], None]) -> None:
        """An engine that is away or full, and a disk without room, are waited for; each is told once."""
        try:
            step()
            return
        except (Busy, Unreachable) as error:
            trouble = f"{self.engine.name}: {error}; trying again until it answers"
        except OSError as error:
            if not lacked_room(error):
                raise
            trouble = f"no room is left in {error.filename or self.store.folder}: waiting until there is some"
        if trouble != self._trouble:
            self.progress.waits(trouble)
            self._trouble = trouble
        self._pause_s = min(_MOST_S, 2 * self._pause_s)
        self._not_before = time.monotonic() + self._pause_s

    # -- submitting ---------------------------------------------------------------------------------------------
    def _fill(self, queue: Queue) -> None:
        """Send out what may start. Where the engine takes no more, the rest of the step goes on."""
        while (not self.terms.workers or len(self._flights) < self.terms.workers) and queue.first() is not None:
            cells = self._next(queue)
            try:
                self._launch(cells)
            except (Busy, Unreachable, OSError) as error:
                for cell in reversed(cells):
                    queue.put_back(cell)
                if not self._flights or (isinstance(error, OSError) and not lacked_room(error)):
                    raise
                return

    def _next(self, queue: Queue) -> list[Cell]:
        """Cells for one ticket: one kind, or those that a ticket of an earlier driver holds."""
        cells: list[Cell] = []
        while (cell := queue.first()) is not None:
            held = self._holder.get(cell.id)
            same = not cells or (
                self._tickets.kind(cell) == self._tickets.kind(cells[0]) and held == self._holder.get(cells[0].id)
            )
            if not same or (held is None and len(cells) == self.terms.pack):
                break
            queue.take()
            cells.append(cell)
        return cells

    def _launch(self, cells: list[Cell]) -> None:
        ended = {cell.id: last_ended(self.store, cell) for cell in cells}
        ended |= {cell.id: self._ended[cell.id] for cell in cells if cell.id in self._ended}
        held = self._holder.get(cells[0].id)
        name = held or self._tickets.name(cells)
        if name not in self._flights:
            handle = self._there[held] if held else self._submit(name, cells, ended)
            self._flights[name] = Flight(name, handle)
            if held:
                self.progress.tell(f"taken over  {name} ({handle})")
        self._flights[name].take(cells, ended)
        for cell in cells:
            self._holder.pop(cell.id, None)
            self._ended.pop(cell.id, None)
            self._losses.begin(cell)
        self._pause_s = _SOON_S

    def _submit(self, name: str, cells: list[Cell], ended: dict[str, int], after: tuple[str, ...] = ()) -> str:
        self._tickets.note(name, self.engine.name, cells)
        command = self._tickets.command(cells, self._codes, ended)
        needs = self._tickets.needs(cells)
        return self.engine.submit(Ticket(name, command, Path.cwd(), self._tickets.log(name), needs, after))

    def detach(self, cells: list[Cell]) -> tuple[int, str]:
        """Submit all of them and go, each after its dense twin: (tickets submitted, why not all). Raises UsageError."""
        try:
            queue = self._queue(cells)
            if not self.engine.chains and (self.terms.workers or queue.chained):
                why = "--workers" if self.terms.workers else "cells that begin with their dense twins"
                raise UsageError(f"{self.engine.name} starts nothing after something else: no --detach with {why}")
            self._take_stock(cells)
            return self._submit_all(queue)
        finally:
            self.engine.close()

    def _submit_all(self, queue: Queue) -> tuple[int, str]:
        handles: list[str] = []
        of_cell = {cell_id: self._there[name] for cell_id, name in self._holder.items()}
        while queue.first() is not None:
            cells = self._next(queue)
            if cells[0].id not in of_cell:
                twins = {c.twin.id for c in cells if wants_twin(c, self._after_twin)}
                after = {of_cell[twin] for twin in twins if twin in of_cell}
                if self.terms.workers and len(handles) >= self.terms.workers:
                    after.add(handles[-self.terms.workers])
                try:
                    ended = {cell.id: last_ended(self.store, cell) for cell in cells}
                    handles.append(self._submit(self._tickets.name(cells), cells, ended, tuple(sorted(after))))
                except (Busy, Unreachable) as error:
                    return len(handles), str(error)
                of_cell |= dict.fromkeys((cell.id for cell in cells), handles[-1])
            for cell in cells:
                queue.ended(cell)
        return len(handles), ""

    # -- following ----------------------------------------------------------------------------------------------
    def _follow(self, flight: Flight, fate: Fate, queue: Queue) -> None:
        now = time.monotonic()
        if fate.phase is not Phase.GONE:
            flight.gone_since = None
        elif flight.gone_since is None:
            flight.gone_since = now
        gone, flight.phase = fate.phase is Phase.GONE, fate.phase
        if fate.phase is Phase.WAITING and fate.message and fate.message not in self._told:
            self._told.add(fate.message)
            self.progress.waits(f"{self.engine.name}: {flight.handle} cannot start as it is: {fate.message}")
        settled = flight.gone_since is not None and now - flight.gone_since >= self.terms.settle_s
        for cell in list(flight.cells.values()):
            record, attempt = newest_record(self.store, cell, flight.ended[cell.id], self.terms.again)
            if record is None and settled:
                record, attempt = self._lose(flight, cell, fate)
            if record is None or attempt is None:
                self._show(flight, cell)
            # an interrupted one may be requeued, and one that lacked room waits for it on its node
            elif gone or not (record.status is Status.INTERRUPTED or lacked_room(record)):
                self._end(flight, cell, record, attempt, fate, queue)
        if gone and not flight.cells:
            del self._flights[flight.name]
            forget(self.store, flight.name)

    def _show(self, flight: Flight, cell: Cell) -> None:
        if (beat := beat_of(self.store, cell.id)) is None or flight.phase is not Phase.RUNNING:
            return
        if cell.id not in flight.begun:
            flight.begun[cell.id] = time.monotonic()
            self.progress.started(cell)
        self.progress.beat(cell, beat)

    def _end(self, flight: Flight, cell: Cell, record: Record, attempt: Path, fate: Fate, queue: Queue) -> None:
        del flight.cells[cell.id]
        if self._losses.again(cell, record, fate):
            self.progress.tell(f"again  {cell.label}: {record.outcome}")
            queue.put_back(cell)
            return
        self._records.append(record)
        begun = flight.begun.get(cell.id)
        told = record.timings.total_s if record.timings else None
        self.progress.ended(cell, record, told or (time.monotonic() - begun if begun else 0.0))
        self.written(attempt)
        queue.ended(cell)

    def _lose(self, flight: Flight, cell: Cell, fate: Fate) -> tuple[Record, Path]:
        """Write down that the ticket is gone and the cell has no record."""
        newest = [number for path in self.store.attempts(cell) if (number := number_of(path)) is not None][-1:]
        number = newest[0] if newest and newest[0] > flight.ended[cell.id] else self.store.new_attempt(cell)[0]
        message = self._losses.message(fate, self._tickets.log(flight.name), self.engine.name)
        record = head(cell, number, self.catalogue.tasks[cell.task], self.store.matrix, self.options.command)
        record = lost(record, fate.status, message)
        return record, self.store.lost(cell, number, record)
