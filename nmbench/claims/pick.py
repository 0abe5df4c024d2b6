"""Which rows the claims are about.

partner        the row of the same setting with another pattern, method or settings
base           a pattern without its axis
lambda_w       SR-STE's decay of a row
sweep          the SR-STE rows beside a row
very_large     the lambda_w of a sweep that is to freeze the mask
sr_ste         the SR-STE rows that stand for the method: lambda_w > 0, and not the very large one
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from nmbench.analysis.rows import Row
from nmbench.sparsity.pattern import NMPattern

__all__ = ["DEFAULT", "base", "dense_twin", "lambda_w", "partner", "sr_ste", "sweep", "very_large"]

#: the paper's lambda_w, which a record's settings leave out
DEFAULT = 2e-4
#: the largest of a sweep is "very large" from this factor over the next on
_FACTOR = 10.0


def base(pattern: NMPattern | None) -> str:
    """ "2:4" of 2:4@kernel; "" for none."""
    return f"{pattern.n}:{pattern.m}" if pattern else ""


def lambda_w(row: Row) -> float | None:
    """The decay of an SR-STE row, the default where its settings name none; None for another method or no number."""
    if row.method != "sr-ste":
        return None
    value = json.loads(row.hyper).get("lambda_w", DEFAULT)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def partner(
    rows: Sequence[Row], row: Row, method: str, hyper: str = "{}", pattern: NMPattern | None = None
) -> Row | None:
    """The row of `row`'s setting with this method and settings, and `row`'s pattern unless another is given."""
    wanted = (row.setting, pattern or row.pattern, method, hyper)
    found = (one for one in rows if (one.setting, one.pattern, one.method, one.hyper) == wanted and one.seeds)
    return next(found, None)


def dense_twin(rows: Sequence[Row], row: Row) -> Row | None:
    """The dense row of `row`'s setting."""
    return next((one for one in rows if one.setting == row.setting and one.is_dense and one.seeds), None)


def sweep(rows: Sequence[Row], row: Row) -> list[Row]:
    """The SR-STE rows of `row`'s setting and pattern that ended well, by rising lambda_w."""
    same = [one for one in rows if (one.setting, one.pattern, one.method) == (row.setting, row.pattern, "sr-ste")]
    return sorted((one for one in same if one.seeds), key=lambda one: lambda_w(one) or 0.0)


def very_large(rows: Sequence[Row], row: Row) -> float | None:
    """The largest lambda_w beside `row`, if it is ten times the next one and not the method's default; else None."""
    values = sorted({value for one in sweep(rows, row) if (value := lambda_w(one)) is not None and value > 0})
    if len(values) < 2 or values[-1] < _FACTOR * values[-2] or values[-1] <= DEFAULT:
        return None
    return values[-1]


def sr_ste(rows: Sequence[Row]) -> list[Row]:
    """All of them that ended well, none picked by its result."""
    return [
        row
        for row in rows
        if row.seeds and (value := lambda_w(row)) is not None and value > 0 and value != very_large(rows, row)
    ]
