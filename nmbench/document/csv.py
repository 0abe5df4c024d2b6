"""The tables of a report as CSV, with every number in full precision: `csv_files`, `csv_text`."""

import csv
import io
import math

from nmbench.document.model import Report, tables
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP


def csv_files(report: Report) -> dict[str, str]:
    """Path in the report's folder -> text, of every table."""
    return {f"tables/{table.name}.csv": csv_text(table) for table in tables(report)}


def csv_text(table: Table) -> str:
    """One line a row under a line of column keys with their units; what a page shows as "-" is empty.

    A cell's parts (the ends of an interval, say) stand in columns of their own right after it.
    """
    out = io.StringIO()
    columns = [_column(column, [row[place] for row in table.rows]) for place, column in enumerate(table.columns)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([key for keys, _ in columns for key in keys])
    writer.writerows([value for _, cells in columns for value in cells[place]] for place in range(len(table.rows)))
    return out.getvalue()


def _column(column: Column, cells: list[Cell]) -> tuple[list[str], list[list[str]]]:
    """(keys, values of each row): of the column itself, then of its cells' parts."""
    parts = list(dict.fromkeys(name for cell in cells for name, _ in cell.parts))
    numeric = any(isinstance(cell.value, int | float) for cell in cells)
    unit = f" ({column.unit})" if column.unit else ""
    keys = [f"{key}{unit}" for key in (column.key, *(f"{column.key}_{part}" for part in parts))]
    return keys, [[_value(cell, numeric), *(_number(dict(cell.parts).get(part)) for part in parts)] for cell in cells]


def _value(cell: Cell, numeric: bool) -> str:
    """Among numbers, words are none: what they say stands in a part of the cell, if it matters."""
    if cell.value is None:
        return "" if numeric or cell.text == "-" else _no_formula(cell.text.replace(NBSP, " "))
    return _no_formula(cell.value) if isinstance(cell.value, str) else _number(cell.value)


def _no_formula(text: str) -> str:
    """With a quote before what a spreadsheet would compute or run."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _number(value: float | str | None) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
