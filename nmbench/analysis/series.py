"""Series over training, from a record or over the seeds of a row.

Series          x (optimizer steps) and y
flip_rate       mask flips per weight per step
training_loss   loss per step
has_flips, has_loss     whether there is anything to read, told without reading it
array, continued        a list of a record, and steps of several passes as one count
band            mean, smallest and largest of several series
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmbench.records.schema import Record

__all__ = ["STRETCHES", "Series", "array", "band", "continued", "flip_rate", "has_flips", "has_loss", "training_loss"]

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
    sad = record.get("sad") or {}
    steps, flips, weights = array(sad.get("step")), array(sad.get("flips")), sad.get("weights")
    if not weights or len(steps) != len(flips):
        return Series(array([]), array([]))
    x = continued(steps)
    starts = np.unique(np.arange(min(STRETCHES, len(x))) * len(x) // max(1, min(STRETCHES, len(x))))
    if not len(starts):
        return Series(x, flips)
    ends = x[np.append(starts[1:], len(x)) - 1]
    lengths = np.diff(ends, prepend=0.0)
    known = lengths > 0
    rate = np.add.reduceat(flips, starts)[known] / lengths[known] / float(weights)
    return Series(ends[known], rate)


def training_loss(record: Record) -> Series:
    """Training loss, the mean over at most `STRETCHES` stretches of each pass, at their middles.

    The second training pass goes on where the first one ended.
    """
    curve = record.get("curve") or {}
    steps, loss = array(curve.get("step")), array(curve.get("loss"))
    if len(steps) != len(loss):
        return Series(array([]), array([]))
    restarts = np.flatnonzero(np.diff(steps) <= 0) + 1
    passes = [
        (_pooled(x), _pooled(y))
        for x, y in zip(np.split(continued(steps), restarts), np.split(loss, restarts), strict=True)
    ]
    x, y = passes[0]
    for more, values in passes[1:]:
        # a gap between two passes: no loss was ever measured on the way from one's end to the other's start
        x = np.concatenate([x, [(x[-1] + more[0]) / 2], more])
        y = np.concatenate([y, [math.nan], values])
    return Series(x, y)


def has_flips(record: Record) -> bool:
    """Whether `flip_rate` has values."""
    sad = record.get("sad") or {}
    return bool(sad.get("weights") and sad.get("step")) and len(sad["step"]) == len(sad.get("flips") or ())


def has_loss(record: Record) -> bool:
    """Whether `training_loss` has values."""
    curve = record.get("curve") or {}
    return bool(curve.get("step")) and len(curve["step"]) == len(curve.get("loss") or ())


def band(many: Sequence[Series]) -> tuple[Series, Array, Array]:
    """Mean, minimum and maximum on the steps of the first series, as far as the shortest one goes."""
    end = min(series.x[-1] for series in many)
    x = many[0].x[many[0].x <= end]
    y = np.array([np.interp(x, series.x, series.y) for series in many])
    return Series(x, y.mean(axis=0)), y.min(axis=0), y.max(axis=0)


def array(values: Sequence[float | None] | None) -> Array:
    """What a record holds as a list, NaN for null; empty for nothing."""
    return np.array([math.nan if value is None else value for value in values or []], dtype=np.float64)


def continued(steps: Array) -> Array:
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
