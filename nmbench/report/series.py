"""Series over training, from a record or over the seeds of a row.

Series          x (optimizer steps) and y
flip_rate       mask flips per weight per step
training_loss   loss per step
band            mean, smallest and largest of several series
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmbench.record import Record

__all__ = ["STRETCHES", "Series", "band", "flip_rate", "training_loss"]

#: values in a line of flip rates, at most
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
    steps, flips, weights = _array(sad.get("step")), _array(sad.get("flips")), sad.get("weights")
    if not weights or len(steps) != len(flips):
        return Series(_array([]), _array([]))
    x = _continued(steps)
    starts = np.unique(np.arange(min(STRETCHES, len(x))) * len(x) // max(1, min(STRETCHES, len(x))))
    if not len(starts):
        return Series(x, flips)
    ends = x[np.append(starts[1:], len(x)) - 1]
    lengths = np.diff(ends, prepend=0.0)
    known = lengths > 0
    rate = np.add.reduceat(flips, starts)[known] / lengths[known] / float(weights)
    return Series(ends[known], rate)


def training_loss(record: Record) -> Series:
    """Mean training loss; the second training pass goes on where the first one ended."""
    curve = record.get("curve") or {}
    steps, loss = _array(curve.get("step")), _array(curve.get("loss"))
    if len(steps) != len(loss):
        return Series(_array([]), _array([]))
    x = _continued(steps)
    restarts = np.flatnonzero(np.diff(steps) <= 0) + 1
    # a gap between two passes: no loss was ever measured on the way from one's end to the other's start
    middles = (x[restarts - 1] + x[restarts]) / 2
    return Series(np.insert(x, restarts, middles), np.insert(loss, restarts, math.nan))


def band(many: Sequence[Series]) -> tuple[Series, Array, Array]:
    """Mean, minimum and maximum on the steps of the first series, as far as the shortest one goes."""
    end = min(series.x[-1] for series in many)
    x = many[0].x[many[0].x <= end]
    y = np.array([np.interp(x, series.x, series.y) for series in many])
    return Series(x, y.mean(axis=0)), y.min(axis=0), y.max(axis=0)


def _array(values: Sequence[float | None] | None) -> Array:
    return np.array([math.nan if value is None else value for value in values or []], dtype=np.float64)


def _continued(steps: Array) -> Array:
    """Steps that start again from below in each training pass, as one rising count."""
    restarts = np.diff(steps) <= 0
    offsets = np.cumsum(np.where(restarts, steps[:-1], 0.0))
    moved: Array = steps + np.concatenate([[0.0], offsets])[: len(steps)]
    return moved
