"""Which rows the claims are about.

With SGD, SR-STE takes lr * lambda_w * w from a pruned weight at each step, so that over a training it shrinks by a
factor of about exp(-lambda_w * sum of lr). A short training with the paper's lambda_w hardly decays anything.
"""

import json
import math
from collections.abc import Iterable, Sequence

from nmbench.analysis.rows import Row
from nmbench.records.schema import Record
from nmbench.sparsity.allocation import Patterns
from nmbench.sparsity.pattern import NMPattern

#: the paper's lambda_w, which a record's settings leave out
_DEFAULT = 2e-4
#: what acted in the authors' published runs: their launch sums over 8 ranks, with the term inside backward
_EFFECTIVE = 8 * _DEFAULT
#: the largest of a sweep is "very large" from this factor over the next on
_FACTOR = 10.0
#: of the ImageNet recipe: 120 epochs of 5005 steps, 5 of them warm-up, from 0.1 down to 0 along a cosine
_PAPER = 120 * 5005 * 0.1 / 2

SUM = "lambda_w x sum of learning rates"
NOTE = (
    "lambda_w acts through the sum of the learning rates: with SGD, a weight that stays pruned shrinks by about "
    f"exp(-lambda_w x sum). In the seed paper's ImageNet recipe that sum is {_PAPER:.0f}: {_DEFAULT:g} times it, the "
    f"paper's number, is {_DEFAULT * _PAPER:.0f}, and {_EFFECTIVE:g} times it, what acted in the authors' published "
    f"runs (8 ranks summed), is {_EFFECTIVE * _PAPER:.0f}. What it is here stands beside each verdict: the same "
    "lambda_w is another method on a shorter schedule."
)
UNSEEN = f"No cell here has lambda_w = {_EFFECTIVE:g}, which acted in the authors' published runs."


def base(pattern: Patterns | None) -> str:
    """ "2:4" of 2:4@kernel, an allocation as it is; "" for none."""
    return f"{pattern.n}:{pattern.m}" if isinstance(pattern, NMPattern) else str(pattern or "")


def lambda_w(row: Row) -> float | None:
    """The decay of an SR-STE row, the default where its settings name none; None for another method or no number."""
    if row.method != "sr-ste":
        return None
    value = json.loads(row.hyper).get("lambda_w", _DEFAULT)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def effective(rows: Iterable[Row]) -> bool:
    """Has one of them the lambda_w that acted in the authors' published runs?"""
    return any(math.isclose(lambda_w(row) or 0.0, _EFFECTIVE) for row in rows)


def partner(
    rows: Sequence[Row], row: Row, method: str, hyper: str = "{}", pattern: Patterns | None = None
) -> Row | None:
    """The row of `row`'s setting with this method and settings, and `row`'s pattern unless another is given."""
    wanted = (row.setting, pattern or row.pattern, method, hyper)
    found = (one for one in rows if (one.setting, one.pattern, one.method, one.hyper) == wanted and one.seeds)
    return next(found, None)


def dense_twin(rows: Sequence[Row], row: Row) -> Row | None:
    """The dense row of `row`'s setting."""
    return next((one for one in rows if one.setting == row.setting and one.is_dense and one.seeds), None)


def very_large(rows: Sequence[Row], row: Row) -> float | None:
    """The largest lambda_w beside `row`, if it is ten times the next one and not the method's default; else None."""
    beside = [one for one in rows if (one.setting, one.pattern) == (row.setting, row.pattern) and one.seeds]
    values = sorted({value for one in beside if (value := lambda_w(one)) is not None and value > 0})
    if len(values) < 2 or values[-1] < _FACTOR * values[-2] or values[-1] <= _DEFAULT:
        return None
    return values[-1]


def sr_ste(rows: Sequence[Row]) -> list[Row]:
    """All of them that ended well, none picked by its result."""
    return [
        row
        for row in rows
        if row.seeds and (value := lambda_w(row)) is not None and value > 0 and value != very_large(rows, row)
    ]


def _of_rates(record: Record) -> float | None:
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
    decay, sums = lambda_w(row), [_of_rates(record) for record in records]
    known = [value for value in sums if value is not None and math.isfinite(value) and value > 0]
    if decay is None or not known or len(known) < len(sums) or max(known) > 1.01 * min(known):
        return []
    return [f"{SUM}: {decay:g} x {known[0]:.3g} = {decay * known[0]:.3g}"]
