"""Cells whose tickets ended without them: what their record says, and whether they are sent out once more."""

from __future__ import annotations

from pathlib import Path

from nmbench.engines.engine import Fate
from nmbench.plan.cell import Cell
from nmbench.records.attempt import number_of, read_record, record_of
from nmbench.records.schema import Record, Status, UnreadableRecord
from nmbench.records.store import Store
from nmbench.running.stops import Stop

_TRIES = 3  # without a newer checkpoint
_TAIL = 8192  # bytes of a log that are looked at
_LATE = (Stop.TIME_LIMIT, Stop.NOTICE)


class Losses:
    """Counts the tries of each cell that brought it no further."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stood: dict[str, int] = {}  # cell id -> time of its newest checkpoint when it was sent out
        self._in_vain: dict[str, int] = {}

    def begin(self, cell: Cell) -> None:
        """It is sent out."""
        self._stood[cell.id] = self._checkpoint(cell)

    def again(self, cell: Cell, record: Record, fate: Fate) -> bool:
        """Is it to be sent out once more? Where its node or its time came to an end, not where it failed itself."""
        kind = record.error.kind if record.error else None
        late = record.status is Status.INTERRUPTED and kind in _LATE
        gone = fate.again and (record.status is Status.INTERRUPTED or kind == "lost")
        if fate.cancelled or not (late or gone):
            return False
        moved = self._checkpoint(cell) > self._stood.get(cell.id, 0)
        self._in_vain[cell.id] = 0 if moved else self._in_vain.get(cell.id, 0) + 1
        return self._in_vain[cell.id] < _TRIES

    def _checkpoint(self, cell: Cell) -> int:
        """Time of the newest file of resume state, nanoseconds; 0: there is none."""
        times = [0]
        for path in (self._store.work / cell.id).glob("attempt-*/phase-*/**/*"):
            try:
                times.append(path.stat().st_mtime_ns)
            except OSError:  # it was replaced
                continue
        return max(times)

    @staticmethod
    def message(fate: Fate, log: Path, engine: str) -> str:
        """What the engine says, and the ticket's log; without one its node may not see the folder at all."""
        try:
            lines = log.read_bytes()[-_TAIL:].decode(errors="replace").splitlines()
        except OSError:
            lines = []
        # what the engine itself printed names machines
        own = [line for line in lines if line.strip() and not line.startswith(("slurmstepd", "srun: "))]
        if own:
            return f"{fate.message}; its log ends: {own[-1][:200]}"
        return f"{fate.message}; it printed nothing: do the nodes see this folder? `nmbench doctor --on {engine}` tells"


def newest_record(store: Store, cell: Cell, after: int, again: bool) -> tuple[Record | None, Path | None]:
    """The record of the newest attempt after number `after`, and its folder; None: not there yet.

    Where there is an `ok` one it counts first, however old unless the cell is to be done `again`: another driver's
    ticket may have done the cell meanwhile.
    """
    attempts = [path for path in store.attempts(cell) if not again or (number_of(path) or 0) > after]
    newest: tuple[Record | None, Path | None] = None, None
    for path in reversed(attempts):
        try:
            record = read_record(file) if (file := record_of(path)) is not None else None
        except UnreadableRecord:
            record = None
        if record is not None and record.status.done:
            return record, path
        if path == attempts[-1] and record is not None and (number_of(path) or 0) > after:
            newest = record, path
    return newest
