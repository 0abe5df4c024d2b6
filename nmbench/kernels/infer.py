"""Which N:M pattern a weight keeps to, read off the weight.

inferred   the sparsest pattern of few that holds, or None
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.sparsity import NMPattern

__all__ = ["inferred"]

#: the patterns of hardware and literature first: only where none of these holds are the others tried
_USUAL = (2, 4, 8, 16, 32, 64)
_OTHERS = tuple(m for m in range(3, 64) if m not in _USUAL)
#: above this there is little to gain, and a few zeros by chance would look like a pattern
_DENSEST = 0.75


def inferred(weight: Tensor) -> NMPattern | None:
    """The pattern of least N / M that every group keeps, of equals that of the smallest M; groups along the inputs.

    weight: (out, in, ...). None if no pattern up to 3:4 holds, or if it is all zero.
    """
    nonzero = (weight.detach().movedim(1, -1) != 0).flatten(0, -2)
    if not bool(nonzero.any()):
        return None
    return _best(nonzero, _USUAL) or _best(nonzero, _OTHERS)


def _best(nonzero: Tensor, sizes: tuple[int, ...]) -> NMPattern | None:
    """nonzero: (rows, in)."""
    known = [m for m in sizes if m <= nonzero.shape[1]]
    if not known:
        return None
    most = torch.stack([_most(nonzero, m) for m in known]).tolist()
    holding = [(n / m, m, n) for n, m in zip(most, known, strict=True) if n / m <= _DENSEST]
    return NMPattern(min(holding)[2], min(holding)[1]) if holding else None


def _most(nonzero: Tensor, m: int) -> Tensor:
    """The most non-zeros in a group of m."""
    counts = F.pad(nonzero, (0, -nonzero.shape[1] % m)).view(len(nonzero), -1, m).sum(2, dtype=torch.int32)
    return counts.max()
