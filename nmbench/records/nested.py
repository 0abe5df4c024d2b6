"""The nested parts of a record hold what the schema promises, so that tables, claims and figures may go through them.

check_nested    raises UnreadableRecord with the key and what is wrong
"""

from __future__ import annotations

import math
from typing import Any

from nmbench.records.fields import flag, number, numbers, section, speed_rows, text
from nmbench.records.schema import Record, UnreadableRecord

__all__ = ["check_nested"]

#: section -> lists of numbers that stand side by side in it
_SERIES = {"sad": ("step", "flips"), "curve": ("phase", "step", "loss", "lr")}


def check_nested(record: Record) -> None:
    """Checks the series, the flips, the layers, the metrics' declarations, remarks, timings and data."""
    for name, keys in _SERIES.items():
        _side_by_side(name, section(record, name), keys)
    _check_flips(section(record, "sad"))
    _check_layers(section(record, "audit"))
    _check_metrics(record)
    _check_remarks(record)
    speed_rows(record)
    for key in ("plugin", "reused", "environment", "error", "facts"):
        section(record, key)
    for key in section(record, "timings"):
        if key.endswith(("_s", "_ms_median")):
            number(section(record, "timings"), key)
    for key in section(section(record, "data"), "counts"):
        number(section(section(record, "data"), "counts"), key)


def _side_by_side(name: str, of: dict[str, Any], keys: tuple[str, ...]) -> None:
    series = [_named(name, of, key) for key in keys]
    if len({len(values) for values in series if values}) > 1:
        raise UnreadableRecord(f"the lists of {name!r} differ in length")


def _named(name: str, of: dict[str, Any], key: str) -> list[float | None]:
    try:
        return numbers(of, key)
    except UnreadableRecord as error:
        raise UnreadableRecord(f"{name}.{key} is not a list of numbers") from error


def _check_flips(sad: dict[str, Any]) -> None:
    """Flips by layer, over all steps and through training, and the snapshots."""
    total = section(sad, "per_layer")
    for name in total:
        number(total, name)
    layers = section(sad, "layers")
    steps = _named("sad.layers", layers, "step")
    flips = section(layers, "flips")
    for name in flips:
        if len(numbers(flips, name)) != len(steps):
            raise UnreadableRecord("the lists of 'sad.layers' differ in length")
    snapshots = section(sad, "snapshots")
    for key in ("steps", "consecutive"):
        _named("sad.snapshots", snapshots, key)
    number(snapshots, "first_last")
    if (number(sad, "weights") or 0) < 0:
        raise UnreadableRecord("sad.weights is negative")


def _check_layers(audit: dict[str, Any]) -> None:
    layers = audit.get("layers") or []
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise UnreadableRecord("audit.layers is not a list of objects")
    for layer in layers:
        shape = layer.get("shape") or []
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise UnreadableRecord("the shape of a layer is not a list of integers")


def _check_metrics(record: Record) -> None:
    infos = record.get("metric_info") or []
    if not isinstance(infos, list) or not all(isinstance(info, dict) and text(info, "name") for info in infos):
        raise UnreadableRecord("metric_info is not a list of objects with a name")
    for info in infos:
        flag(info, "higher_is_better")
        margin = number(info, "margin")
        if margin is not None and not (math.isfinite(margin) and margin >= 0):
            raise UnreadableRecord(f"the margin of {info['name']!r} is {margin}: it is finite and not negative")


def _check_remarks(record: Record) -> None:
    if not all(isinstance(values, dict) for values in section(record, "baselines").values()):
        raise UnreadableRecord("a baseline is not an object")
    if not isinstance(record.get("notes") or [], list):
        raise UnreadableRecord("notes is not a list")
