"""The report as CSV: `csv_files`, one text a table, with every number in full precision; and what it says in words."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence

from nmbench.document.inline import to_plain
from nmbench.document.model import Banner, Bullets, Fold, Part, Picture, Prose, Report, Section, Shell, tables
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP

__all__ = ["csv_files", "csv_text"]


def csv_files(report: Report) -> dict[str, str]:
    """Path in the report's folder -> text, of every table, and of the words in notes.csv."""
    files = {f"tables/{table.name}.csv": csv_text(table) for table in tables(report)}
    return {**files, "notes.csv": _lines([("where", "text"), *_said(report, report.title)])}


def _said(part: Part, where: str) -> Iterator[tuple[str, str]]:
    """(headings, sentence) for everything but tables and figures; the notes of a table under its name."""
    for block in part.content:
        match block:
            case Section() | Fold():
                yield from _said(block, f"{where} / {block.title}")
            case Prose() | Banner():
                yield where, to_plain(block.text)
            case Bullets():
                yield from ((where, to_plain(item)) for item in block.items)
            case Shell():
                yield from ((where, line) for line in block.lines)
            case Table():
                yield from ((block.name, to_plain(note)) for note in block.notes)
            case Picture():
                yield f"figures/{block.file}", f"{block.title}: {block.about}. {block.caption}"


def csv_text(table: Table) -> str:
    """One line a row under a line of column keys with their units; what a page shows as "-" is empty.

    A cell's parts (the ends of an interval, say) stand in columns of their own right after it.
    """
    parts = [_parts(table, place) for place in range(len(table.columns))]
    numeric = {place for row in table.rows for place, cell in enumerate(row) if isinstance(cell.value, int | float)}
    head = [
        key for column, own in zip(table.columns, parts, strict=True) for key in [_key(column), *_keys(column, own)]
    ]
    body = (
        [
            value
            for place, (cell, own) in enumerate(zip(row, parts, strict=True))
            for value in [_value(cell, place in numeric), *_values(cell, own)]
        ]
        for row in table.rows
    )
    return _lines([head, *body])


def _lines(rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _parts(table: Table, place: int) -> list[str]:
    return list(dict.fromkeys(name for row in table.rows for name, _ in row[place].parts))


def _key(column: Column, part: str = "") -> str:
    key = f"{column.key}_{part}" if part else column.key
    return f"{key} ({column.unit})" if column.unit else key


def _keys(column: Column, parts: list[str]) -> list[str]:
    return [_key(column, part) for part in parts]


def _value(cell: Cell, numeric: bool) -> str:
    """Among numbers, words are none: what they say stands in a part of the cell, if it matters."""
    if cell.value is None:
        return "" if numeric or cell.text == "-" else cell.text.replace(NBSP, " ")
    return _number(cell.value)


def _values(cell: Cell, parts: list[str]) -> list[str]:
    known = dict(cell.parts)
    return [_number(known.get(part)) for part in parts]


def _number(value: float | str | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)
