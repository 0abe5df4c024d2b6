"""lambda_w in the units in which it acts: multiplied by the sum of the learning rates.

shrinkage       in words, for a verdict about an SR-STE row
of_rates        the sum of the learning rates of a record
NOTE            what a reader of such a verdict must know
SUM             how the words of `shrinkage` begin

With SGD, SR-STE takes lr * lambda_w * w from a pruned weight at each step, so that over a training it shrinks by a
factor of about exp(-lambda_w * sum of lr). A short training with the paper's lambda_w hardly decays anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nmbench.analysis.rows import Row
from nmbench.claims.pick import DEFAULT, lambda_w
from nmbench.records.schema import Record

__all__ = ["NOTE", "SUM", "of_rates", "shrinkage"]

#: of the ImageNet recipe: 120 epochs of 5005 steps, 5 of them warm-up, from 0.1 down to 0 along a cosine
_PAPER = 120 * 5005 * 0.1 / 2

SUM = "lambda_w x sum of learning rates"
NOTE = (
    "lambda_w acts through the sum of the learning rates: with SGD, a weight that stays pruned shrinks by about "
    f"exp(-lambda_w x sum). In the seed paper's ImageNet recipe that sum is {_PAPER:.0f}, and {DEFAULT:g} times it is "
    f"{DEFAULT * _PAPER:.0f}; what it is here stands beside each verdict. The same lambda_w is therefore another "
    "method on a shorter schedule."
)


def of_rates(record: Record) -> float | None:
    """The sum of the learning rates over the optimizer steps of the last pass, None where the record has no curve."""
    curve = record.curve
    if curve is None or not curve.step or not curve.lr:
        return None
    phases = curve.phase or [0] * len(curve.step)
    # each entry is the mean over the steps since the one before it
    total, before = 0.0, 0
    for phase, step, rate in zip(phases, curve.step, curve.lr, strict=True):
        if phase == phases[-1]:
            if rate is None:
                return None
            total, before = total + rate * (step - before), step
    return total


def shrinkage(row: Row, records: Sequence[Record]) -> list[str]:
    """One sentence, or none where the learning rates are not known or differ between the seeds."""
    value, sums = lambda_w(row), [of_rates(record) for record in records]
    known = [one for one in sums if one is not None and math.isfinite(one) and one > 0]
    if value is None or not known or len(known) < len(sums) or max(known) > 1.01 * min(known):
        return []
    return [f"{SUM}: {value:g} x {known[0]:.3g} = {value * known[0]:.3g}"]
