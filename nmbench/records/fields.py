"""Reading single values of a record, each checked to be of the kind that the schema promises.

    section, text, number, integer, flag    one value; None where it is absent or null
    numbers                                 a list of them
    flat_environment                        versions and hardware, one level deep
    speed_rows                              the timed batches of a record
    canonical                               JSON text in canonical form: equal settings give equal text

All raise UnreadableRecord with the key and what is wrong.
"""

from __future__ import annotations

import json
import math
from typing import Any

from nmbench._util.settings import plain
from nmbench.records.schema import Record, UnreadableRecord

__all__ = ["canonical", "flag", "flat_environment", "integer", "number", "numbers", "section", "speed_rows", "text"]

#: what json.loads makes of a number, and of null, which stands for NaN in strict JSON
_NUMBERS = frozenset({int, float, type(None)})
#: integers stay far below it; numpy takes none that no float can hold
_LARGEST = 2**63


def canonical(value: Any) -> str:
    """`value` as JSON text with sorted keys, no blanks and whole floats as integers; nothing (None, {}) gives "{}"."""
    return json.dumps(plain(value or {}), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def section(of: dict[str, Any], key: str) -> dict[str, Any]:
    """A nested object; absent and null are empty."""
    value = of.get(key)
    if value is not None and not isinstance(value, dict):
        raise UnreadableRecord(f"{key!r} is not an object")
    return value or {}


def text(of: dict[str, Any], key: str) -> str | None:
    """Text, or None; other values as canonical JSON."""
    value = of.get(key)
    return value if value is None or isinstance(value, str) else canonical(value)


def number(of: dict[str, Any], key: str) -> float | None:
    """A number, or None."""
    value = of.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableRecord(f"{key!r} is not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise UnreadableRecord(f"{key!r} is too large for a number") from error


def integer(of: dict[str, Any], key: str) -> int | None:
    """A 64-bit integer, or None; fractions are rounded."""
    number_ = number(of, key)
    if number_ is None or math.isnan(number_):
        return None
    if not abs(number_) < 2**63:
        raise UnreadableRecord(f"{key!r} is no 64-bit integer")
    value = of[key]
    # a JSON integer stays one: above 2**53 a float would lose digits
    return value if isinstance(value, int) else round(number_)


def numbers(of: dict[str, Any], key: str) -> list[float | None]:
    """A list of numbers; null stands for NaN, and absent is empty."""
    values: list[float | None] | None = of.get(key)
    if values is None:
        return []
    # by type, not by isinstance: these lists are most of what there is to read, and true is no number
    types = set(map(type, values)) if isinstance(values, list) else {list}
    if not types <= _NUMBERS:
        raise UnreadableRecord(f"{key!r} is not a list of numbers")
    if int in types and _largest(values, type(None) in types) >= _LARGEST:
        raise UnreadableRecord(f"{key!r} has a number that is too large")
    return values


def _largest(values: list[float | None], gaps: bool) -> float:
    """The largest of them without its sign; not with abs of each, because there are millions."""
    known: list[Any] = [value for value in values if value is not None] if gaps else values
    # no float: an integer may be too large for one
    found: float = max(max(known), -min(known))
    return found


def flag(of: dict[str, Any], key: str) -> bool | None:
    """True, False, or None."""
    value = of.get(key)
    if value is not None and not isinstance(value, bool):
        raise UnreadableRecord(f"{key!r} is neither true nor false")
    return value


def flat_environment(record: Record) -> dict[str, Any]:
    """The environment with its distributions' versions beside its other keys, wherever the record keeps them."""
    environment = dict(section(record, "environment"))
    versions = section(environment, "versions")
    environment.pop("versions", None)
    return {**versions, **environment}


def speed_rows(record: Record) -> list[dict[str, Any]]:
    """`speed.rows`: one object a timed batch, with a batch of its own; [] where no speed was measured."""
    rows = section(record, "speed").get("rows") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) and integer(row, "batch") for row in rows):
        raise UnreadableRecord("speed.rows is not a list of objects with a batch")
    for row in rows:
        for key in ("dense_ms", "converted_ms", "dense_per_s", "converted_per_s", "ratio"):
            number(row, key)
    return rows
