"""The report as CSV: `csv_files`, one text a table, with every number in full precision."""

from __future__ import annotations

import csv
import io
import math

from nmbench.report.model import Report, tables
from nmbench.report.table import Cell, Column, Table
from nmbench.report.words import NBSP

__all__ = ["csv_files", "csv_text"]


def csv_files(report: Report) -> dict[str, str]:
    """Path in the report's folder -> text, of every table."""
    return {f"tables/{table.name}.csv": csv_text(table) for table in tables(report)}


def csv_text(table: Table) -> str:
    """One line a row under a line of column keys with their units; what a page shows as "-" is empty.

    A cell's parts (the ends of an interval, say) stand in columns of their own right after it.
    """
    parts = [_parts(table, place) for place in range(len(table.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        key for column, own in zip(table.columns, parts, strict=True) for key in [_key(column), *_keys(column, own)]
    )
    for row in table.rows:
        writer.writerow(
            value for cell, own in zip(row, parts, strict=True) for value in [_value(cell), *_values(cell, own)]
        )
    return out.getvalue()


def _parts(table: Table, place: int) -> list[str]:
    return list(dict.fromkeys(name for row in table.rows for name, _ in row[place].parts))


def _key(column: Column, part: str = "") -> str:
    key = f"{column.key}_{part}" if part else column.key
    return f"{key} ({column.unit})" if column.unit else key


def _keys(column: Column, parts: list[str]) -> list[str]:
    return [_key(column, part) for part in parts]


def _value(cell: Cell) -> str:
    if cell.value is None:
        return "" if cell.text == "-" else cell.text.replace(NBSP, " ")
    return _number(cell.value)


def _values(cell: Cell, parts: list[str]) -> list[str]:
    known = dict(cell.parts)
    return [_number(known.get(part)) for part in parts]


def _number(value: float | str | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)
