"""Which N:M pattern a weight keeps to, read off the weight.

inferred   the pattern that it keeps to, or None
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nmbench.sparsity import NMPattern
from nmbench.sparsity.pattern import MAX_M

__all__ = ["inferred"]

#: above this there is little to gain, and a few zeros by chance would look like a pattern
_DENSEST = 0.75
#: share of the whole groups that hold exactly N in a weight that was pruned to N:M; other sizes of group show a spread
_EXACT = 0.9
#: without such a pattern, a larger M must be sparser by this factor
_CLEARLY = 0.8
_SAMPLE = 1 << 16


def inferred(weight: Tensor) -> NMPattern | None:
    """The pattern of the smallest M whose groups nearly all hold exactly N non-zeros, none of them more.

    Where there is none, as after further pruning: the smallest power of two for M, or a larger one that is clearly
    sparser. Groups run along the inputs.

    weight: (out, in, ...). None if no pattern up to 3:4 holds, or if it is all zero.
    """
    nonzero = (weight.detach().movedim(1, -1) != 0).flatten(0, -2)
    if not bool(nonzero.any()):
        return None
    sizes = range(2, min(MAX_M, nonzero.shape[1]) + 1)
    # some of the rows suggest patterns; what they suggest is held against all
    step = max(1, nonzero.numel() // _SAMPLE)
    part = nonzero[::step]
    for m in sizes:
        n = _most(part, m)
        if n <= _DENSEST * m and _share(part, n, m) >= _EXACT and _most(nonzero, m) == n:
            return NMPattern(n, m)
    best = None
    for m in (m for m in sizes if m & (m - 1) == 0):
        n = _most(nonzero, m)
        if n <= m * (_DENSEST if best is None else _CLEARLY * best.density):
            best = NMPattern(n, m)
    return best


def _counts(nonzero: Tensor, m: int) -> Tensor:
    """Non-zeros of each group of m. nonzero: (rows, in) -> (rows, groups), a short last one among them."""
    return F.pad(nonzero, (0, -nonzero.shape[1] % m)).view(len(nonzero), -1, m).sum(2)


def _most(nonzero: Tensor, m: int) -> int:
    return int(_counts(nonzero, m).max())


def _share(nonzero: Tensor, n: int, m: int) -> float:
    """Share of the whole groups that hold exactly n."""
    whole = _counts(nonzero, m)[:, : nonzero.shape[1] // m]
    return float((whole == n).float().mean())
