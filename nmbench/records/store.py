"""Records on disk: results/<matrix>/<task>/<slug>-<id8>/attempt-<k>/record.json.

One attempt has exactly one writer. `record.json` is written last, to a temporary name, fsynced, renamed: its existence
means that the attempt ended. An attempt folder without it is one that was killed; it is never believed. No file has two
writers: a driver that misses a record writes `lost.json` beside it, since it may see an old state of a shared folder.

Resume state is in work/<matrix>/<cell id>/attempt-<k>, handed on by renaming: what still runs as an earlier attempt
finds nothing there at its next heartbeat, and ends.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nmbench._util.errors import UsageError
from nmbench._util.files import Locked, discard, locked
from nmbench.plan.cell import Cell
from nmbench.records.attempt import LOST, number_of, read_record, record_of
from nmbench.records.headlines import Headlines
from nmbench.records.schema import Record, Status, UnreadableRecord


class Overtaken(Exception):
    """Another attempt has the cell."""


class NoRecord(StrEnum):
    """Why a cell has no record to judge it by."""

    NEW = "new"
    UNFINISHED = "unfinished"  # its attempt was killed, or is still running
    UNREADABLE = "unreadable"  # or that of another cell


@dataclass(frozen=True)
class CellState:
    """What became of a cell: the status of the attempt that counts, or why there is none.

    attempts: how many there are. record, path: of the one that counts, and its folder. outcome: of it, on one line.
    """

    cell: Cell
    status: Status | NoRecord
    attempts: int
    record: Record | None = None
    path: Path | None = None
    outcome: str = ""

    @property
    def done(self) -> bool:
        """Only `ok` is done."""
        return self.status is Status.OK

    @property
    def recorded(self) -> bool:
        """Has the attempt that counts left a record that tells of this cell?"""
        return not isinstance(self.status, NoRecord)


class Store:
    """The results of one matrix.

    root: folder of all results. The work folder with resume state lies beside it, never inside, and is its own: `work`
    for `results`, `work-b` for `b`, so that the lock on the one is a lock on the other.
    """

    def __init__(self, root: Path, matrix: str) -> None:
        self.root = root
        self.matrix = matrix
        self.folder = root / matrix
        beside = Path(os.path.abspath(root))
        name = "work" if beside.name == "results" else f"work-{beside.name}"
        self.work = beside.parent / name / matrix
        #: what `state` needs where it is brief; `keep` lets the next command have it
        self.headlines = Headlines(self.folder)

    def attempts(self, cell: Cell) -> list[Path]:
        """Attempt folders of a cell, oldest first."""
        folder = f"{self.folder}/{cell.folder}"
        try:
            names = os.listdir(folder)
        except OSError:  # there is none yet, or it cannot be looked into
            return []
        numbers = [number for name in names if (number := number_of(name)) is not None]
        return [Path(f"{folder}/attempt-{k}") for k in sorted(numbers)]

    def _attempt(self, cell: Cell, number: int) -> Path:
        return self.folder / cell.folder / f"attempt-{number}"

    def new_attempt(self, cell: Cell) -> tuple[int, Path]:
        """Make the folder of the next attempt; its number and path. Raises FileExistsError rather than share one."""
        taken = self.attempts(cell)
        number = 1 + ((number_of(taken[-1]) or 0) if taken else 0)
        path = self._attempt(cell, number)
        path.mkdir(parents=True, exist_ok=False)
        return number, path

    def state(self, cell: Cell, *, brief: bool = False) -> CellState:
        """The newest `ok` attempt if there is one, else the newest. brief: without its record."""
        attempts = self.attempts(cell)
        newest: CellState | None = None
        for path in reversed(attempts):
            state = self._state(cell, path, len(attempts), brief)
            if state.done:
                return state
            newest = newest or state
        return newest or CellState(cell, NoRecord.NEW, 0)

    def _state(self, cell: Cell, path: Path, attempts: int, brief: bool) -> CellState:
        """What the attempt in the folder `path` says of the cell."""
        if (file := record_of(path)) is None:
            return CellState(cell, NoRecord.UNFINISHED, attempts, None, path)
        try:
            record = None if brief else read_record(file)
            told = record or self.headlines.of(file)
        except UnreadableRecord:
            return CellState(cell, NoRecord.UNREADABLE, attempts, None, path)
        if told.cell_id != cell.id:
            return CellState(cell, NoRecord.UNREADABLE, attempts, record, path)
        return CellState(cell, told.status, attempts, record, path, told.outcome)

    def take_work(self, cell: Cell, number: int) -> Path:
        """Resume state and heartbeat of attempt `number`, outside the results; an earlier attempt loses them.

        Raises Overtaken if a later attempt has them.
        """
        folder = self.work / cell.id
        if folder.exists() and not folder.is_dir():
            discard(folder)
        mine = folder / f"attempt-{number}"
        while not mine.exists():
            with contextlib.suppress(FileNotFoundError):  # another took or removed it, and is to be looked for again
                folder.mkdir(parents=True, exist_ok=True)
                there = {k: folder / name for name in os.listdir(folder) if (k := number_of(name)) is not None}
                # of others the results were removed
                if later := [k for k in there if k > number and self._attempt(cell, k).exists()]:
                    raise Overtaken(f"attempt {max(later)} of {cell.label} took it over")
                there[max(there)].rename(mine) if there else mine.mkdir()
        others = [path for path in folder.iterdir() if (number_of(path) or 0) < number]
        for path in (*others, *mine.rglob(".*.tmp")):  # half-written by a process that was killed
            discard(path)
        return mine

    def drop_work(self, work: Path) -> None:
        """Remove resume state that `take_work` gave, and nobody else's."""
        discard(work)
        with contextlib.suppress(OSError):  # another attempt's is there
            work.parent.rmdir()

    def lost(self, cell: Cell, number: int, record: Record) -> Path:
        """Leave `record` for an attempt that left none, and does not run any more as far as can be seen; its folder."""
        path = self._attempt(cell, number)
        path.mkdir(parents=True, exist_ok=True)
        record.write(path / LOST)
        return path

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the matrix for one `run`. The system lets go when the process dies. Raises UsageError if it is held."""
        held = contextlib.ExitStack()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(self.folder / ".lock", wait=False))
        except Locked:
            raise UsageError(f"another `nmbench run {self.matrix}` is working in {self.folder}; wait for it") from None
        except OSError as error:
            raise UsageError(f"cannot write to {self.folder}: {error.strerror}; choose another --results") from error
        with held:
            yield
