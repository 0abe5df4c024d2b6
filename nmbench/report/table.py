"""The one table of the report, before it becomes markdown, HTML, CSV or LaTeX.

Cell      what is shown, and the value behind it
Column    key, title, alignment, unit
Table     columns and rows, with the sentences under them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Cell", "Column", "Table"]


@dataclass(frozen=True)
class Cell:
    """One cell: `text` is plain, as shown; `value` is for sorting and for full precision in CSV, None: text."""

    text: str
    value: float | str | None = None
    strong: bool = False
    code: bool = False


@dataclass(frozen=True)
class Column:
    """One column: `key` names it in CSV, `title` (and `unit`) for people; aligned left or right."""

    key: str
    title: str
    align: Literal["l", "r"] = "l"
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """`name` is a slug, unique in a report; `notes` are markdown sentences under the table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
