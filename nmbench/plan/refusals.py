"""Which patterns a method cannot do: asked once, where the method is described, so that planning needs no torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import get_args

from pydantic import BaseModel, ConfigDict

from nmbench.sparsity.allocation import Allocation, ErdosRenyi, Patterns, Share
from nmbench.sparsity.pattern import MAX_M, Axis, NMPattern


class Refusal(BaseModel):
    """Why a method cannot keep N of M along an axis, N from `least` to `most`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: str
    axis: Axis
    m: int
    least: int
    most: int


def refusals(why: Callable[[NMPattern], str]) -> Iterator[Refusal]:
    """What `why`, a method's `refuses`, says of every pattern that prunes."""
    every = (NMPattern(n, m, axis) for axis in get_args(Axis) for m in range(2, MAX_M + 1) for n in range(1, m))
    for (axis, m, reason), run in groupby(every, lambda pattern: (pattern.axis, pattern.m, why(pattern))):
        if reason:
            counts = [pattern.n for pattern in run]
            yield Refusal(reason=reason, axis=axis, m=m, least=counts[0], most=counts[-1])


def refused(found: Iterable[Refusal], pattern: Patterns) -> str:
    """The first rule of `pattern` whose pattern is among those found, and why, as "4:8: why"; "" where none is.

    Of Erdos-Renyi shares, only where none that a layer might get would do.
    """
    known = list(found)
    for share in shares(pattern):
        total = share.total if isinstance(share, ErdosRenyi) else share
        counts = range(1, total.m) if isinstance(share, ErdosRenyi) else [total.n]
        reasons = [_reason(known, total.axis, total.m, n) for n in counts]
        if reasons and all(reasons):
            return f"{share}: {reasons[0]}"
    return ""


def _reason(found: list[Refusal], axis: Axis, m: int, n: int) -> str:
    return next((r.reason for r in found if (r.axis, r.m) == (axis, m) and r.least <= n <= r.most), "")


def shares(pattern: Patterns) -> list[NMPattern | ErdosRenyi]:
    """What the rules of `pattern` give layers, dense ones left out."""
    rules: Sequence[tuple[str, Share]] = pattern.rules if isinstance(pattern, Allocation) else [("", pattern)]
    return [share for _, share in rules if share is not None]


def along_kernels(pattern: Patterns) -> bool:
    """Does a layer get a pattern along the flattened kernel?"""
    totals = [share.total if isinstance(share, ErdosRenyi) else share for share in shares(pattern)]
    return any(total.axis == "kernel" for total in totals)
