"""Where the numbers come from, and a warning where one table mixes origins.

origins       key -> {value: cells}, over some records
mixed         the banner above a table, or ""
provenance    the table of origins
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from nmbench.record import Record
from nmbench.report.fields import canonical, flat_environment
from nmbench.report.words import plural, short, table, text

__all__ = ["mixed", "origins", "provenance"]

_NO_GPU = "none"


def origins(records: Iterable[Record]) -> dict[str, Counter[str]]:
    """Every key of the environments, the plugin and the data fingerprint, with its values and their number of cells."""
    found: dict[str, Counter[str]] = {}
    known = [(record, _origin(record)) for record in records]
    for key in dict.fromkeys(key for _, origin in known for key in origin):
        # another task's data, and those that a failed cell never reached, are no gap
        asked = [
            origin for record, origin in known if key in origin or (" of " not in key and record["status"] == "ok")
        ]
        found[key] = Counter(_word(key, origin.get(key)) for origin in asked)
    return found


def mixed(records: Iterable[Record]) -> str:
    """A banner that names what the cells of one table do not share; "" if they share everything."""
    differing = {key: values for key, values in origins(records).items() if len(values) > 1}
    if not differing:
        return ""
    what = "; ".join(f"{text(key)}: {_values(values)}" for key, values in differing.items())
    return (
        f"> **Mixed origins.** The cells of this table differ in more than pattern and method. {what}. "
        "Differences between rows may come from this."
    )


def provenance(records: Iterable[Record]) -> str:
    """One row a key; where cells differ, each value with its number of cells. "" without records."""
    body = [[text(key), _values(values)] for key, values in sorted(origins(records).items())]
    return table(["What", "Value"], body) if body else ""


def _origin(record: Record) -> dict[str, Any]:
    plugin = record.get("plugin") or {}
    task = record["cell"]["task"]
    origin = flat_environment(record)
    if distribution := plugin.get("distribution"):
        origin[f"plugin of {task}"] = f"{distribution} {plugin.get('version') or ''}".strip()
    if fingerprint := (record.get("data") or {}).get("fingerprint"):
        origin[f"data of {task}"] = str(fingerprint)[:16]
    return origin


def _word(key: str, value: Any) -> str:
    if value is None:
        return _NO_GPU if key in ("gpu", "driver") else "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value if isinstance(value, str) else canonical(value), 80)


def _values(values: Counter[str]) -> str:
    if len(values) == 1:
        return text(next(iter(values)))
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{text(value)} ({plural(count, 'cell')})" for value, count in ordered)
