"""Records on disk: results/<matrix>/<task>/<slug>-<id8>/attempt-<k>/record.json.

One attempt has exactly one writer. `record.json` is written last, to a temporary name, fsynced, renamed: its existence
means that the attempt ended. An attempt folder without it is one that was killed; it is never believed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nmbench._util.errors import UsageError
from nmbench._util.files import Locked, locked
from nmbench.plan.cell import Cell
from nmbench.records.schema import Record, UnreadableRecord, migrate

__all__ = ["CellState", "Store", "read_record"]


def read_record(path: Path) -> Record:
    """The record in `path`, lifted to the current schema. Raises UnreadableRecord with the reason."""
    try:
        return migrate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UnreadableRecord(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class CellState:
    """What is known of a cell: `status` is "new", "unfinished", "unreadable" or that of the newest record."""

    cell: Cell
    status: str
    attempts: int
    record: Record | None = None
    path: Path | None = None

    @property
    def done(self) -> bool:
        """Only `ok` is done."""
        return self.status == "ok"


class Store:
    """The results of one matrix.

    root: folder of all results. The work folder with resume state lies beside it, never inside.
    """

    def __init__(self, root: Path, matrix: str) -> None:
        self.root = root
        self.matrix = matrix
        self.folder = root / matrix
        self.work = root.absolute().parent / "work" / matrix

    def attempts(self, cell: Cell) -> list[Path]:
        """Attempt folders of a cell, oldest first."""
        folder = self.folder / cell.folder
        numbers = [int(p.name[8:]) for p in folder.glob("attempt-*") if p.name[8:].isdigit()]
        return [folder / f"attempt-{k}" for k in sorted(numbers)]

    def new_attempt(self, cell: Cell) -> tuple[int, Path]:
        """Make the folder of the next attempt; its number and path. Raises FileExistsError rather than share one."""
        taken = self.attempts(cell)
        number = 1 + (int(taken[-1].name[8:]) if taken else 0)
        path = self.folder / cell.folder / f"attempt-{number}"
        path.mkdir(parents=True, exist_ok=False)
        return number, path

    def state(self, cell: Cell) -> CellState:
        """The newest `ok` attempt if there is one, else the newest."""
        attempts = self.attempts(cell)
        found: CellState | None = None
        for path in reversed(attempts):
            file = path / "record.json"
            record: Record | None = None
            if not file.exists():
                status = "unfinished"
            else:
                try:
                    record = read_record(file)
                    status = record["status"] if record["cell_id"] == cell.id else "unreadable"
                except UnreadableRecord:
                    status = "unreadable"
            state = CellState(cell, status, len(attempts), record, path)
            if state.done:
                return state
            found = found or state
        return found or CellState(cell, "new", 0)

    def work_dir(self, cell: Cell) -> Path:
        """Resume state and heartbeat of a cell, outside the results."""
        path = self.work / cell.id
        path.mkdir(parents=True, exist_ok=True)
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
