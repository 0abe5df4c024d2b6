"""Mask flips by layer, from the records of a row.

LayerFlips     per weight and layer: over training, and in all
layer_flips    a row -> the mean over its seeds
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmbench.analysis.rows import Row
from nmbench.analysis.series import Array, array, continued
from nmbench.records.schema import Record

__all__ = ["LayerFlips", "layer_flips"]


@dataclass(frozen=True)
class LayerFlips:
    """Means over seeds.

    Attributes:
        names: (layers,) of the weights, in the model's order.
        sizes: (layers,) their numbers of elements.
        total: (layers,) flips per weight over all training.
        edges: (bins + 1,) optimizer steps; empty where the records do not hold flips by layer and step.
        rate: (layers, bins) flips per weight per step.
        seeds: records behind `total`.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    total: Array
    edges: Array
    rate: Array
    seeds: int


def layer_flips(row: Row, records: Sequence[Record]) -> LayerFlips | None:
    """The mean over those of the row's records that have the layers of the first one; None where none has any."""
    found = [one for index in row.records if (one := _read(records[index])) is not None]
    if not found:
        return None
    first = found[0]
    alike = [one for one in found if one.names == first.names]
    timed = [one for one in alike if np.array_equal(one.edges, first.edges)]
    return LayerFlips(
        first.names,
        first.sizes,
        np.mean([one.total for one in alike], axis=0),
        first.edges,
        np.mean([one.rate for one in timed], axis=0),
        len(alike),
    )


def _read(record: Record) -> LayerFlips | None:
    sad: dict[str, Any] = record.get("sad") or {}
    shapes = {layer["name"]: layer.get("shape") for layer in (record.get("audit") or {}).get("layers") or ()}
    flips: dict[str, float] = sad.get("per_layer") or {}
    names = tuple(name for name in flips if shapes.get(name))
    if not names:
        return None
    sizes = tuple(math.prod(shapes[name]) for name in names)
    weights = np.array(sizes, dtype=np.float64)
    edges, rate = _timed(sad.get("layers") or {}, names)
    return LayerFlips(
        names,
        sizes,
        np.array([flips[name] for name in names], dtype=np.float64) / weights,
        edges,
        rate / weights[:, None],
        1,
    )


def _timed(layers: dict[str, Any], names: Sequence[str]) -> tuple[Array, Array]:
    """(edges, flips per step), both empty where they are not known for every layer."""
    flips = layers.get("flips") or {}
    steps = continued(array(layers.get("step")))
    edges = np.concatenate([[0.0], steps])
    known = len(steps) and bool(np.all(np.diff(edges) > 0))
    if not known or any(len(flips.get(name) or ()) != len(steps) for name in names):
        return array([]), np.zeros((len(names), 0))
    return edges, np.array([array(flips[name]) for name in names]) / np.diff(edges)
