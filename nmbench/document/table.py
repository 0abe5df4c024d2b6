"""The one table of the report, before it becomes markdown, HTML, CSV or LaTeX."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Cell:
    """One cell: `text` is plain, as shown; `value` is for sorting and for full precision in CSV, None: text.

    `parts` are the other things that the text shows, as (name, value): "82.0 ± 2.0" is the value 82.0 and the part
    ("sd", 2.0). In CSV each is a column of its own, `<column>_<name>`.
    """

    text: str
    value: float | str | None = None
    strong: bool = False
    code: bool = False
    parts: tuple[tuple[str, float | str | None], ...] = ()


def numeric(value: float | None, words: Callable[[float], str], **parts: float | str | None) -> Cell:
    """A number in the words that `words` makes of it; "-" for None and NaN."""
    if value is None or math.isnan(value):
        return Cell("-")
    return Cell(words(value), value, parts=tuple(parts.items()))


@dataclass(frozen=True)
class Column:
    """One column: `key` names it in CSV, `title` (and `unit`) for people; aligned left or right."""

    key: str
    title: str
    align: Literal["l", "r"] = "l"
    unit: str = ""

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """`name` is a slug, unique in a report; `notes` are markdown sentences under the table.

    keys: how many leading columns name the row.
    sortable: False where the order of the rows is part of what is said.
    about: what the table is about beyond its title, for a caption that stands alone.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    keys: int = 1
    sortable: bool = True
    about: str = ""


def named(table: Table, prefix: str, about: str) -> Table:
    """`table` as `<prefix>-<name>`, so that the same kind of table may stand in a report many times."""
    return replace(table, name=f"{prefix}-{table.name}", about=about)


def filled(table: Table) -> Table:
    """`table` without the columns that are "-" in every row; those that name the rows stay."""
    kept = [
        place
        for place in range(len(table.columns))
        if place < table.keys or any(row[place].text != "-" for row in table.rows)
    ]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows)
