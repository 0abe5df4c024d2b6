"""An engine that starts nothing: its tickets end as a test says, at the next question but one."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from nmbench.engines.engine import Fate, Needs, Phase, Ticket
from nmbench.plan.cell import Cell
from nmbench.records.attempt import RECORD
from nmbench.records.schema import Failure, Record, Status
from nmbench.records.store import Store
from nmbench.running.stops import Stop

GONE = Fate(Phase.GONE, Status.CRASH, "it is gone")
Act = Callable[[str, Ticket], Fate]


class Pretended:
    """act: what happens in a ticket, and its fate. It is asked for each ticket that is not gone, at each question."""

    name = "pretended"
    accelerated = False
    chains = True

    def __init__(self, act: Act) -> None:
        self.act = act
        self.tickets: dict[str, Ticket] = {}
        self.submitted: list[Ticket] = []
        self.cancelled: list[str] = []
        self.there: dict[str, str] = {}

    def check(self, needs: Needs) -> None: ...

    def submit(self, ticket: Ticket) -> str:
        self.submitted.append(ticket)
        handle = str(len(self.submitted))
        self.tickets[handle] = ticket
        return handle

    def fates(self, handles: Collection[str]) -> dict[str, Fate]:
        return {handle: self.act(handle, self.tickets[handle]) for handle in handles}

    def cancel(self, handles: Collection[str]) -> None:
        self.cancelled += handles

    def known(self, prefix: str) -> dict[str, str]:
        return {name: handle for name, handle in self.there.items() if name.startswith(prefix)}

    def close(self) -> None: ...


class Node:
    """What `nmbench run --cell` would leave in the store."""

    def __init__(self, store: Store, cells: Collection[Cell]) -> None:
        self.store, self.cells = store, {cell.id: cell for cell in cells}
        self.runs: list[str] = []

    def ids(self, ticket: Ticket) -> list[str]:
        words = ticket.command
        return [words[i + 1].partition("@")[0] for i, word in enumerate(words) if word == "--cell"]

    def attempt(
        self, cell_id: str, status: Status = Status.OK, kind: str = "", moves: bool = False, words: str = ""
    ) -> Path:
        """One more attempt at a cell, ended. moves: it wrote a checkpoint before."""
        cell = self.cells[cell_id]
        number, path = self.store.new_attempt(cell)
        self.runs.append(cell.label)
        if moves:
            state = self.store.take_work(cell, number) / "phase-0" / "last.pt"
            state.parent.mkdir(exist_ok=True)
            state.write_text(str(number))
        failure = Failure(kind=kind or status, message=words or "in its own words") if status.failed else None
        record = Record(schema_version=1, cell=cell, cell_id=cell.id, attempt=number, status=status)
        if failure is not None:
            record.error = failure
        record.write(path / RECORD)
        return path

    def all_well(self, handle: str, ticket: Ticket) -> Fate:
        for cell_id in self.ids(ticket):
            if not self.store.state(self.cells[cell_id]).done:
                self.attempt(cell_id)
        return GONE


LATE = Stop.TIME_LIMIT
LOST = replace(GONE, again=True)
