"""The mask that keeps N of each row and each column of a tile with the largest sum, whatever N and M are."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from nmbench.sparsity.methods.transport import largest_mask

#: scores of tiles that are solved together: what fits a core's cache
_TOGETHER = 1 << 18


@functools.cache
def _all_masks(n: int, m: int) -> Tensor:
    """(masks, m * m): every 0/1 tile with n in each row and column."""
    rows = [torch.tensor([float(i in kept) for i in range(m)]) for kept in itertools.combinations(range(m), n)]
    made = torch.stack([torch.stack(choice) for choice in itertools.product(rows, repeat=m)])
    return made[(made.sum(1) == n).all(1)].flatten(1)


def transposable_mask(score: Tensor, n: int) -> Tensor:
    """The mask that keeps n of each row and column of each tile, with the largest sum.

    score: (tiles, m, m), not negative. Returns bool of that shape, exactly n in each row and column. Up to m = 4 all
    masks are compared; above, transport.py solves for the best.
    """
    if not len(score):
        return torch.zeros_like(score, dtype=torch.bool)
    parts = torch.split(score.float(), max(1, _TOGETHER // score.shape[1] ** 2))
    return torch.cat([_solved(part, n) for part in parts])


def _solved(score: Tensor, n: int) -> Tensor:
    m = score.shape[1]
    if m > 4:
        return largest_mask(score, n)
    masks = _all_masks(n, m).to(score)
    return masks[(score.flatten(1) @ masks.t()).argmax(1)].view_as(score).bool()
