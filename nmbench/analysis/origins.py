"""Where numbers come from: versions, hardware, code and data of records.

origins    key -> {value: cells}, over some records
mixture    the same, only what the records do not share
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from nmbench.document.words import short
from nmbench.records.fields import canonical, flat_environment
from nmbench.records.schema import Record

__all__ = ["mixture", "origins"]

Origins = dict[str, Counter[str]]
#: what each task has of its own; between tasks it is no difference
_OF_TASK = " of "


def origins(records: Iterable[Record]) -> Origins:
    """Every key of the environments, with plugin, code and data of each task: its values and their number of cells."""
    known = [(record["status"] == "ok", _origin(record)) for record in records]
    found: Origins = {}
    for key in dict.fromkeys(key for _, origin in known for key in origin):
        # another task's data, and those that a failed cell never reached, are no gap
        gaps_count = _OF_TASK not in key
        asked = (origin for good, origin in known if key in origin or (gaps_count and good))
        found[key] = Counter(_word(key, origin.get(key)) for origin in asked)
    return found


def mixture(records: Iterable[Record]) -> Origins:
    """What the records do not share; {} where they were made alike."""
    return {key: values for key, values in origins(records).items() if len(values) > 1}


def _origin(record: Record) -> dict[str, Any]:
    plugin, task = record.get("plugin") or {}, record["cell"]["task"]
    origin = flat_environment(record)
    distribution = plugin.get("distribution")
    own = {
        "code": origin.pop("code", None),
        "plugin": f"{distribution} {plugin.get('version') or ''}".strip() if distribution else None,
        "data": ((record.get("data") or {}).get("fingerprint") or "")[:16],
    }
    return origin | {f"{key}{_OF_TASK}{task}": value for key, value in own.items() if value}


def _word(key: str, value: Any) -> str:
    if value is None:
        return "none" if key in ("gpu", "driver") else "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value if isinstance(value, str) else canonical(value), 80)
