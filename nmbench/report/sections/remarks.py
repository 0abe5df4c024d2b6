"""What the records of one setting say in words, below its tables.

baselines    what a trivial answer reaches, for scale
facts        how the cells were trained and evaluated
notes        sentences that the task wrote for the reader
All is inline markdown; "" or () where no record says anything. What all cells share is said once; what they do not
share is said with the rows that it is true of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.document.words import code, text
from nmbench.records.schema import Record

__all__ = ["baselines", "facts", "notes"]

Said = Callable[[Record], Iterable[str]]


def baselines(rows: Sequence[Row], records: Sequence[Record]) -> str:
    """One line: "For scale: zero flow reaches epe 8.80 px."."""
    units = {info["name"]: info.get("unit") or "" for record in _of(rows, records) for info in _metric_info(record)}

    def said(record: Record) -> Iterator[str]:
        for name, values in (record.get("baselines") or {}).items():
            reached = ", ".join(f"{text(key)} {_value(value, units.get(key, ''))}" for key, value in values.items())
            yield f"{text(name)} reaches {reached}"

    found = [f"{what}{who}" for what, who in _shared(rows, records, said)]
    return f"For scale: {'; '.join(found)}." if found else ""


def facts(rows: Sequence[Row], records: Sequence[Record]) -> str:
    """One line: "How it was done: sacrebleu signature `nrefs:1`."."""

    def said(record: Record) -> Iterator[str]:
        for name, value in (record.get("facts") or {}).items():
            yield f"{text(name)} {code(value)}"

    found = [f"{what}{who}" for what, who in _shared(rows, records, said)]
    return f"How it was done: {'; '.join(found)}." if found else ""


def notes(rows: Sequence[Row], records: Sequence[Record]) -> tuple[str, ...]:
    """The notes, each once."""

    def said(record: Record) -> Iterator[str]:
        yield from (text(note) for note in record.get("notes") or ())

    return tuple(f"{what}{who}" for what, who in _shared(rows, records, said))


def _of(rows: Sequence[Row], records: Sequence[Record]) -> list[Record]:
    return [records[index] for row in rows for index in row.records]


def _metric_info(record: Record) -> list[dict[str, str]]:
    return list(record.get("metric_info") or [])


def _value(value: object, unit: str) -> str:
    number = f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else "-"
    return text(f"{number} {unit}".strip())


def _shared(rows: Sequence[Row], records: Sequence[Record], said: Said) -> list[tuple[str, str]]:
    """Every sentence with "" if all records say it, else with the rows (and seeds) whose records do."""
    where: dict[str, list[tuple[Row, int]]] = {}
    total = 0
    for row in rows:
        for seed, index in zip(row.seeds, row.records, strict=True):
            total += 1
            for sentence in dict.fromkeys(said(records[index])):
                where.setdefault(sentence, []).append((row, seed))
    return [(sentence, "" if len(cells) == total else f" ({_cells(cells)})") for sentence, cells in where.items()]


def _cells(cells: Iterable[tuple[Row, int]]) -> str:
    seeds: dict[Row, list[int]] = {}
    for row, seed in cells:
        seeds.setdefault(row, []).append(seed)
    return ", ".join(_cell(row, own) for row, own in seeds.items())


def _cell(row: Row, seeds: Sequence[int]) -> str:
    some = f", seed {', '.join(map(str, seeds))}" if len(seeds) < len(row.seeds) else ""
    return text(row.name + some)
