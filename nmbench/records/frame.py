"""Records on disk become a pandas frame.

load      everything below a folder: records, frame, what could not be read, how many attempts left no record
frame     the frame alone
newest    the one attempt of each cell that counts
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nmbench.records.row import COLUMNS, flatten
from nmbench.records.schema import Record, UnreadableRecord, migrate

__all__ = ["Loaded", "Unreadable", "frame", "load", "newest"]


@dataclass(frozen=True)
class Unreadable:
    """A record file that could not be used: its path relative to the folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """What a results folder holds.

    Attributes:
        records: the readable records, lifted to the current schema, sorted by path.
        frame: one row for each of `records`, with the position in `records` as index; see `frame`.
        unreadable: the record files that could not be used, each with the reason.
        unfinished: attempts without a record: they were killed, or are still running.
        folders: the attempt folder of each of `records`.
    """

    records: list[Record]
    frame: pd.DataFrame
    unreadable: list[Unreadable]
    unfinished: int
    folders: list[Path] = field(default_factory=list)


def load(folder: str | Path) -> Loaded:
    """Read every `attempt-*/record.json` below `folder`. A missing folder is an empty one; no file makes it fail."""
    folder = Path(folder)
    records: list[Record] = []
    rows: list[dict[str, object]] = []
    folders: list[Path] = []
    unreadable: list[Unreadable] = []
    unfinished = 0
    for attempt in sorted(folder.rglob("attempt-*"), key=lambda path: path.relative_to(folder).as_posix()):
        file, name = attempt / "record.json", attempt.relative_to(folder).as_posix()
        if not os.path.isdir(attempt):
            continue
        if not os.path.lexists(file):
            unfinished += 1
            continue
        try:
            record = _read(file)
            rows.append(flatten(record, name))
            records.append(record)
            folders.append(attempt)
        except UnreadableRecord as error:
            unreadable.append(Unreadable(f"{name}/record.json", str(error)))
    table = _typed(rows)
    table.attrs = {"unreadable": [(one.path, one.reason) for one in unreadable], "unfinished": unfinished}
    return Loaded(records, table, unreadable, unfinished, folders)


def frame(folder: str | Path) -> pd.DataFrame:
    """One row for every readable record below `folder`, sorted by path. Absent values are NA (NaN in float columns).

    The columns, their dtypes and meanings are in `nmbench.records.columns` (COLUMNS, ABOUT); the value of every metric
    that any record has is in `metric.<name>` (float64).

    Record files that cannot be read are no rows: `frame.attrs["unreadable"]` is a list of (path, reason), and
    `frame.attrs["unfinished"]` the number of attempts that left no record.
    """
    return load(folder).frame


def newest(attempts: pd.DataFrame) -> pd.DataFrame:
    """The attempt of each cell that counts: its newest one that is `ok`, else its newest; sorted as before."""
    order = attempts.assign(_ok=attempts["status"].eq("ok")).sort_values(["_ok", "attempt", "path"], kind="stable")
    return attempts.loc[sorted(order.drop_duplicates("cell_id", keep="last").index)]


def _read(file: Path) -> Record:
    try:
        record = migrate(_json(file))
    except OSError as error:
        raise UnreadableRecord(error.strerror or type(error).__name__) from error
    except json.JSONDecodeError as error:
        raise UnreadableRecord(f"broken JSON at line {error.lineno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UnreadableRecord("not UTF-8 text") from error
    except RecursionError as error:
        raise UnreadableRecord("nested too deeply to be a record") from error
    except UnreadableRecord:
        raise
    except Exception as error:  # a migration that meets a record it does not expect must not stop the others
        raise UnreadableRecord(f"the migration failed: {type(error).__name__}: {error}") from error
    record.setdefault("attempt", _number_of(file.parent.name))
    return record


def _json(file: Path) -> object:
    text = file.read_text(encoding="utf-8")
    if not text.strip("\0 \n\r\t"):
        raise UnreadableRecord("the file is empty: its writer was stopped, or the disk was full")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # Python reads no integer of thousands of digits
        raise UnreadableRecord(f"a number in it is too long: {error}") from error


def _number_of(attempt: str) -> int | None:
    digits = attempt.removeprefix("attempt-")
    return int(digits) if digits.isdecimal() else None


def _typed(rows: list[dict[str, object]]) -> pd.DataFrame:
    metrics = sorted({name for row in rows for name in row if name.startswith("metric.")})
    dtypes = {**COLUMNS, **dict.fromkeys(metrics, "float64")}
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=dtype) for name, dtype in dtypes.items()}
    return pd.DataFrame(columns)
