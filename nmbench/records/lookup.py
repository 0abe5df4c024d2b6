"""A finished cell by its id, without its matrix file."""

import re
from collections.abc import Iterator
from pathlib import Path

from nmbench._util.errors import UsageError
from nmbench.plan.cell import Cell
from nmbench.records.attempt import RECORD, WEIGHTS, read_record
from nmbench.records.reading import headline
from nmbench.records.schema import Record, UnreadableRecord
from nmbench.records.store import CellState, NoRecord, Store

_NAME = re.compile("(?:[A-Za-z0-9][A-Za-z0-9._-]*/)*[0-9a-f]{4,16}")


def is_id(text: str) -> bool:
    """Is it the beginning of a cell's id, alone or behind its matrix ("quick/0123abcd")?"""
    return _NAME.fullmatch(text) is not None


def with_weights(results: Path, text: str) -> tuple[Record, Path]:
    """The record of the done cell below `results` whose id begins with `text`, and the file of its weights.

    Raises UsageError if there is none or more than one, it is not done, or its weights are not here.
    """
    if not is_id(text):
        raise UsageError(f"{text!r} is no cell: give 4 to 16 digits of its id, as `nmbench status M` shows it, or M/ID")
    found = dict(_found(results, *text.rpartition("/")[::2]))
    if not found:
        raise UsageError(f"no cell {text!r} has results below {results}; `nmbench status M` shows the ids of a matrix")
    if len(found) > 1:
        raise UsageError(f"{text!r} fits {len(found)} cells; name one: {', '.join(sorted(found)[:5])}")
    ((name, state),) = found.items()
    if isinstance(state, NoRecord) or not state.done:
        status = state if isinstance(state, NoRecord) else state.status
        matrix, _, id_ = name.rpartition("/")
        raise UsageError(f"cell {name} is not done: {status}; `nmbench run {matrix} --only {id_}` runs it")
    assert state.record is not None
    assert state.path is not None
    if not (state.path / WEIGHTS).is_file():
        raise UsageError(f"cell {name} left no weights here ({WEIGHTS}); records travel without them")
    return state.record, state.path / WEIGHTS


def _found(results: Path, matrix: str, prefix: str) -> Iterator[tuple[str, CellState | NoRecord]]:
    """(matrix/id, state, or why no record of it can be read) of each cell that fits."""
    for folder in sorted((results / matrix).rglob(f"*-{prefix[:8]}*")):
        id_ = folder.name.rpartition("-")[2]
        if not (id_.startswith(prefix[:8]) and any(folder.glob("attempt-*"))):
            continue
        place = folder.parent.parent.relative_to(results).as_posix()
        cell = _cell(folder)
        if cell is None:
            records = any(folder.glob(f"attempt-*/{RECORD}"))
            yield f"{place}/{id_}", NoRecord.UNREADABLE if records else NoRecord.UNFINISHED
        elif cell.id.startswith(prefix):
            yield f"{place}/{id_}", Store(results, place).state(cell)


def _cell(folder: Path) -> Cell | None:
    """That of any record in the folder."""
    for file in sorted(folder.glob(f"attempt-*/{RECORD}")):
        try:
            return read_record(file, headline).cell
        except UnreadableRecord:
            continue
    return None
