"""Where the numbers come from, and a warning where one table mixes origins.

mixed         the banner above a table, or ""
provenance    the table of origins
fingerprint   one hash over all records
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from nmbench.analysis.origins import mixture, origins
from nmbench.contract import samples
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural, text
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["fingerprint", "mixed", "provenance"]


def mixed(records: Iterable[Record], where: str = "of this table") -> str:
    """A banner that names what the cells of one table do not share; "" if they share everything."""
    differing = mixture(records)
    if not differing:
        return ""
    what = "; ".join(f"{text(key)}: {_values(values)}" for key, values in differing.items())
    return (
        f"**Mixed origins.** The cells {where} differ in more than pattern and method. {what}. "
        "Differences between rows may come from this."
    )


def provenance(records: Iterable[Record]) -> Table | None:
    """One row a key and value, with the number of cells that have it; None without records."""
    columns = (Column("what", "What"), Column("value", "Value"), Column("cells", "Cells", "r"))
    rows = tuple(
        (Cell(key), Cell(value), Cell(str(count), count))
        for key, values in sorted(origins(records).items())
        for value, count in _ordered(values)
    )
    return Table("provenance", "Provenance", columns, rows) if rows else None


def fingerprint(loaded: Loaded) -> str:
    """16 hexadecimal digits over the bytes of all readable records and of what tables and examples read beside them."""
    whole = hashlib.sha256()
    for folder in loaded.folders:
        for name in ("record.json", "per_example.json", samples.FILE):
            file = folder / name
            whole.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"-")
    return whole.hexdigest()[:16]


def _values(values: Counter[str]) -> str:
    return ", ".join(f"{text(value)} ({plural(count, 'cell')})" for value, count in _ordered(values))


def _ordered(values: Counter[str]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))
