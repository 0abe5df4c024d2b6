"""Series over training, from a record or over the seeds of a row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmbench.analysis.rows import Row
from nmbench.records.schema import Record

#: values in a line of flip rates or losses, at most
STRETCHES = 50

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """x: (n,) rising optimizer steps over all training passes; y: (n,)."""

    x: Array
    y: Array


def flip_rate(record: Record) -> Series:
    """Flips per weight per optimizer step, each value the mean over a stretch of steps and placed at its end.

    Neighbouring entries are pooled into at most `STRETCHES` stretches: single steps flip so few weights that a line
    through them would be noise, and late in training mostly zero, which a log scale cannot show.
    """
    sad = record.sad
    if sad is None or not has_flips(record):
        return Series(_array([]), _array([]))
    x, flips = _continued(_array(sad.step)), _array(sad.flips)
    starts = np.unique(np.arange(min(STRETCHES, len(x))) * len(x) // min(STRETCHES, len(x)))
    ends = x[np.append(starts[1:], len(x)) - 1]
    lengths = np.diff(ends, prepend=0.0)
    known = lengths > 0
    rate = np.add.reduceat(flips, starts)[known] / lengths[known] / float(sad.weights or 0)
    return Series(ends[known], rate)


def training_loss(record: Record) -> Series:
    """Training loss, the mean over at most `STRETCHES` stretches of each pass, at their middles.

    The second training pass goes on where the first one ended.
    """
    curve = record.curve
    if curve is None or not has_loss(record):
        return Series(_array([]), _array([]))
    steps, loss = _array(curve.step), _array(curve.loss)
    restarts = np.flatnonzero(np.diff(steps) <= 0) + 1
    passes = [
        (_pooled(x), _pooled(y))
        for x, y in zip(np.split(_continued(steps), restarts), np.split(loss, restarts), strict=True)
    ]
    x, y = passes[0]
    for more, values in passes[1:]:
        # a gap between two passes: no loss was ever measured on the way from one's end to the other's start
        x = np.concatenate([x, [(x[-1] + more[0]) / 2], more])
        y = np.concatenate([y, [math.nan], values])
    return Series(x, y)


def has_flips(record: Record) -> bool:
    """Whether `flip_rate` has values."""
    return record.sad is not None and bool(record.sad.weights and record.sad.step and record.sad.flips)


def has_loss(record: Record) -> bool:
    """Whether `training_loss` has values."""
    return record.curve is not None and bool(record.curve.step and record.curve.loss)


def band(many: Sequence[Series]) -> tuple[Series, Array, Array]:
    """Mean, minimum and maximum on the steps of the first series, as far as the shortest one goes."""
    end = min(series.x[-1] for series in many)
    x = many[0].x[many[0].x <= end]
    y = np.array([np.interp(x, series.x, series.y) for series in many])
    return Series(x, y.mean(axis=0)), y.min(axis=0), y.max(axis=0)


def _array(values: Sequence[float | None]) -> Array:
    """NaN for null."""
    return np.array(values, dtype=np.float64)


def _continued(steps: Array) -> Array:
    """Steps that start again from below in each training pass, as one rising count."""
    restarts = np.diff(steps) <= 0
    offsets = np.cumsum(np.where(restarts, steps[:-1], 0.0))
    moved: Array = steps + np.concatenate([[0.0], offsets])[: len(steps)]
    return moved


def _pooled(values: Array) -> Array:
    """Means of at most `STRETCHES` stretches of neighbouring values."""
    if len(values) <= STRETCHES:
        return values
    starts = np.arange(STRETCHES) * len(values) // STRETCHES
    sums: Array = np.add.reduceat(values, starts)
    return sums / np.diff(starts, append=len(values))


@dataclass(frozen=True)
class LayerFlips:
    """Mask flips by layer, means over seeds.

    Attributes:
        names: (layers,) of the weights, in the model's order.
        sizes: (layers,) their numbers of elements.
        total: (layers,) flips per weight over all training.
        seeds: records behind `total`.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    total: Array
    seeds: int


def layer_flips(row: Row, records: Sequence[Record]) -> LayerFlips | None:
    """The mean over those of the row's records that have the layers of the first one; None where none has any."""
    known = [flips for place in row.records if (flips := _by_layer(records[place])) is not None]
    if not known:
        return None
    first = known[0]
    alike = [flips for flips in known if flips.names == first.names]
    total = np.mean([flips.total for flips in alike], axis=0)
    return LayerFlips(first.names, first.sizes, total, len(alike))


def _by_layer(record: Record) -> LayerFlips | None:
    shapes = {layer.name: layer.shape for layer in record.audit.layers} if record.audit else {}
    flips = record.sad.per_layer if record.sad else {}
    names = tuple(name for name in flips if shapes.get(name))
    if record.sad is None or not names:
        return None
    sizes = tuple(math.prod(shapes[name]) for name in names)
    total = np.array([flips[name] for name in names], dtype=np.float64) / np.array(sizes)
    return LayerFlips(names, sizes, total, 1)
