"""Records on disk become a pandas frame."""

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nmbench.records.attempt import read_record, record_of
from nmbench.records.columns import COLUMNS, row
from nmbench.records.schema import Record, Status, UnreadableRecord


@dataclass(frozen=True)
class Unreadable:
    """A record file that could not be used, or not all of it: its path relative to the folder, and why."""

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
        problems: what had to be left out of the readable records: their paths, and which section for what reason.
    """

    records: list[Record]
    frame: pd.DataFrame
    unreadable: list[Unreadable]
    unfinished: int
    folders: list[Path] = field(default_factory=list)
    problems: list[Unreadable] = field(default_factory=list)


def load(folder: str | Path, *, series: bool = True) -> Loaded:
    """Read every `attempt-*/record.json` below `folder`. A missing folder is an empty one; no file makes it fail.

    series: keep what was recorded through training, which takes most of the memory.
    """
    folder = Path(folder)
    shared: dict[tuple[float | None, ...], list[Any]] = {}
    loaded = Loaded([], pd.DataFrame(), [], 0)
    rows: list[dict[str, object]] = []
    unfinished = 0
    with _without_collector():
        for name, attempt in _attempts(folder):
            if (path := record_of(attempt)) is None:
                unfinished += 1
                continue
            file = f"{name}/{path.name}"
            try:
                record = read_record(path)
            except UnreadableRecord as error:
                loaded.unreadable.append(Unreadable(file, str(error)))
                continue
            _shorten(record, shared if series else None)
            rows.append(row(record, name))
            loaded.records.append(record)
            loaded.folders.append(attempt)
            loaded.problems.extend(Unreadable(file, problem) for problem in record.problems)
        table = _typed(rows)
    table.attrs = {"unreadable": [(one.path, one.reason) for one in loaded.unreadable], "unfinished": unfinished}
    return replace(loaded, frame=table, unfinished=unfinished)


def _shorten(record: Record, shared: dict[tuple[float | None, ...], list[Any]] | None) -> None:
    """Lists that many records have alike (steps, learning rates) become one; without `shared` they go."""
    curve, sad = record.curve, record.sad
    if shared is None:
        record.curve = None
        if sad is not None:
            sad.step, sad.flips, sad.layers = [], [], None
        return
    if curve is not None:
        curve.phase, curve.step, curve.lr = (
            shared.setdefault(tuple(values), values) for values in (curve.phase, curve.step, curve.lr)
        )
    if sad is not None:
        sad.step = shared.setdefault(tuple(sad.step), sad.step)


def _attempts(folder: Path) -> list[tuple[str, Path]]:
    """(path relative to `folder`, path) of each attempt's folder below it, in that order."""
    found: list[tuple[str, Path]] = []
    waiting = [(os.fspath(folder), "")]
    while waiting:  # faster than os.walk, and than rglob, which looks into the attempts too
        root, around = waiting.pop()
        for entry in _folders(root):
            if entry.name.startswith("attempt-"):
                found.append((f"{around}{entry.name}", Path(entry.path)))
            elif not entry.is_symlink():
                waiting.append((entry.path, f"{around}{entry.name}/"))
    return sorted(found)


def _folders(root: str) -> list[os.DirEntry[str]]:
    """The folders in the folder `root`; none where it cannot be looked into."""
    try:
        with os.scandir(root) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except OSError:
        return []


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """No search for reference cycles meanwhile: among millions of numbers it takes longer than the reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """What there is now is not searched for reference cycles meanwhile: with thousands of records that takes long."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def frame(folder: str | Path) -> pd.DataFrame:
    """One row for every readable record below `folder`, sorted by path. Absent values are NA (NaN in float columns).

    The columns, their dtypes and meanings are in `nmbench.records.columns.COLUMNS`; the value of every metric that
    any record has is in `metric.<name>`, of every measurement in `measurement.<name>` (float64).

    Record files that cannot be read are no rows: `frame.attrs["unreadable"]` is a list of (path, reason), and
    `frame.attrs["unfinished"]` the number of attempts that left no record.
    """
    return load(folder).frame


def newest(attempts: pd.DataFrame) -> pd.DataFrame:
    """The attempt of each cell that counts: its newest one that is `ok`, else its newest; sorted as before."""
    order = attempts.assign(_ok=attempts["status"].eq(Status.OK.value)).sort_values(
        ["_ok", "attempt", "path"], kind="stable"
    )
    return attempts.loc[sorted(order.drop_duplicates("cell_id", keep="last").index)]


def _typed(rows: list[dict[str, object]]) -> pd.DataFrame:
    more = sorted(set[str]().union(*rows).difference(COLUMNS))
    dtypes = {**{name: column.dtype for name, column in COLUMNS.items()}, **dict.fromkeys(more, "float64")}
    columns = {name: pd.Series([values.get(name) for values in rows], dtype=dtype) for name, dtype in dtypes.items()}
    return pd.DataFrame(columns)
