"""Where the numbers come from, and a warning where one table mixes origins.

origins       key -> {value: cells}, over some records
mixed         the banner above a table, or ""
provenance    the table of origins
fingerprint   one hash over all records
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from nmbench.contract import samples
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural, short, text
from nmbench.plan.cell import canonical
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["fingerprint", "mixed", "origins", "provenance"]

_NO_GPU = "none"


def origins(records: Iterable[Record]) -> dict[str, Counter[str]]:
    """Every key of the environments, the plugin and the data fingerprint, with its values and their number of cells."""
    known = [(record["status"] == "ok", _origin(record)) for record in records]
    found: dict[str, Counter[str]] = {}
    for key in dict.fromkeys(key for _, origin in known for key in origin):
        # another task's data, and those that a failed cell never reached, are no gap
        gaps_count = " of " not in key
        asked = (origin for good, origin in known if key in origin or (gaps_count and good))
        found[key] = Counter(_word(key, origin.get(key)) for origin in asked)
    return found


def mixed(records: Iterable[Record], where: str = "of this table") -> str:
    """A banner that names what the cells of one table do not share; "" if they share everything."""
    differing = {key: values for key, values in origins(records).items() if len(values) > 1}
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


def _origin(record: Record) -> dict[str, Any]:
    plugin = record.get("plugin") or {}
    task = record["cell"]["task"]
    origin = record.environment.flat() if record.environment else {}
    if distribution := plugin.get("distribution"):
        origin[f"plugin of {task}"] = f"{distribution} {plugin.get('version') or ''}".strip()
    if digest := (record.get("data") or {}).get("fingerprint"):
        origin[f"data of {task}"] = str(digest)[:16]
    return origin


def _word(key: str, value: Any) -> str:
    if value is None:
        return _NO_GPU if key in ("gpu", "driver") else "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value if isinstance(value, str) else canonical(value), 80)


def _values(values: Counter[str]) -> str:
    return ", ".join(f"{text(value)} ({plural(count, 'cell')})" for value, count in _ordered(values))


def _ordered(values: Counter[str]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))
