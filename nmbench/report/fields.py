"""Reading single values of a record, each checked to be of the kind that the schema promises.

    section, text, number, integer, flag    one value; None where it is absent or null
    check_lists                             the nested lists that tables and figures go through
    flat_environment                        versions and hardware, one level deep
    speed_rows                              the timed batches of a record
    canonical                               JSON text in canonical form: equal settings give equal text

All raise UnreadableRecord with the key and what is wrong.
"""

from __future__ import annotations

import json
import math
from typing import Any

from nmbench.record import Record, UnreadableRecord

__all__ = ["canonical", "check_lists", "flag", "flat_environment", "integer", "number", "section", "speed_rows", "text"]

#: section -> lists of numbers that stand side by side in it
_SERIES = {"sad": ("step", "flips"), "curve": ("phase", "step", "loss", "lr")}


def canonical(value: Any) -> str:
    """`value` as JSON text with sorted keys and no blanks; nothing (None, {}) gives "{}"."""
    return json.dumps(value or {}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
    return float(value)


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


def check_lists(record: Record) -> None:
    """The series of `sad` and `curve` hold numbers and are equally long; layers, metrics, remarks are as promised."""
    for name, keys in _SERIES.items():
        series = {key: section(record, name).get(key) or [] for key in keys}
        for key, values in series.items():
            if not isinstance(values, list) or not all(_is_number(value) for value in values):
                raise UnreadableRecord(f"{name}.{key} is not a list of numbers")
        if len({len(values) for values in series.values() if values}) > 1:
            raise UnreadableRecord(f"the lists of {name!r} differ in length")
    layers = section(record, "audit").get("layers") or []
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise UnreadableRecord("audit.layers is not a list of objects")
    for layer in layers:
        shape = layer.get("shape") or []
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise UnreadableRecord("the shape of a layer is not a list of integers")
    _check_remarks(record)


def _check_remarks(record: Record) -> None:
    infos = record.get("metric_info") or []
    if not isinstance(infos, list) or not all(isinstance(info, dict) and "name" in info for info in infos):
        raise UnreadableRecord("metric_info is not a list of objects with a name")
    if not all(isinstance(values, dict) for values in section(record, "baselines").values()):
        raise UnreadableRecord("a baseline is not an object")
    section(record, "facts")
    if not isinstance(record.get("notes") or [], list):
        raise UnreadableRecord("notes is not a list")


def _is_number(value: Any) -> bool:
    # null stands for NaN, which strict JSON cannot say
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
