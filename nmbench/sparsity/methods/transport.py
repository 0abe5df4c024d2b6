"""The mask that keeps N of each row and column of a square tile with the largest sum: a transport problem, solved.

A start near the optimum is made as Meng et al. 2025 (TSENOR; their code was not seen) describe it: entropy-regularised
transport by Dykstra's projections, rows to N, columns to N, each entry to at most 1. What both its row and its column
rank among their N largest is kept, gaps are filled by the best swap, and then cycles are cancelled (Klein 1967): a
mask is the best where no cycle of rows, each of which hands a column on to the next, gains anything. Cycles are looked
for by Bellman and Ford's passes, which go on from the prices of the rows that the projections found.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: (passes of the projections, temperature); of N = 1, an assignment, a higher one leaves nearly integral shares
_PROJECTIONS, _OF_ASSIGNMENTS = (60, 40.0), (40, 80.0)
#: a gain below this share of the largest score counts as rounding
_SLACK = 4e-6
#: rounds of cancelling per row; a sixth of them was needed at most
_ROUNDS = 8


def largest_mask(score: Tensor, n: int) -> Tensor:
    """score: (tiles, m, m), float32, not negative. Returns bool of that shape, exactly n in each row and column."""
    share, price = _relaxed(score, n)
    mask = _filled(_top(share, n, 1) & _top(share, n, 2), score, n)
    _cancel(mask, score, price)
    return mask


def _top(share: Tensor, n: int, dim: int) -> Tensor:
    return torch.zeros_like(share, dtype=torch.bool).scatter_(dim, share.topk(n, dim).indices, True)


def _relaxed(score: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(tiles, m, m) shares, whose rows and columns sum to about n; (tiles, m) prices of the rows, in units of score."""
    passes, temperature = _OF_ASSIGNMENTS if n == 1 else _PROJECTIONS
    top = score.amax((1, 2)).clamp_(min=torch.finfo(score.dtype).tiny)
    share = ((score / top[:, None, None] - 1) * temperature).exp_().permute(1, 2, 0).contiguous()  # long inner loops
    dual, price = torch.ones_like(share), torch.zeros_like(share[0])
    for _ in range(passes):
        scale = n / share.sum(1)
        price -= scale.log()
        share.mul_(scale[:, None])
        share.mul_(n / share.sum(0, keepdim=True))
        if n > 1:  # of one share a row, none is above 1
            share.mul_(dual)
            torch.clamp(share, min=1.0, out=dual)
            share.div_(dual)
    return share.permute(2, 0, 1).contiguous(), (price * top / temperature).t().contiguous()


def _filled(mask: Tensor, score: Tensor, n: int) -> Tensor:
    """A row r and a column c that miss one: r takes j and i takes c, where (i, j) was, at the best gain."""
    while True:
        short = (mask.sum(2) < n).any(1).nonzero()[:, 0]
        if not len(short):
            return mask
        part, of, at = mask[short], score[short], torch.arange(len(short), device=mask.device)
        r, c = (part.sum(2) < n).int().argmax(1), (part.sum(1) < n).int().argmax(1)
        direct = ~part[at, r, c]
        gain = of[at, r][:, None, :] + of[at, :, c][:, :, None] - of
        gain = gain.masked_fill(~part | part[at, r][:, None, :] | part[at, :, c][:, :, None], -math.inf)
        best = gain.flatten(1).argmax(1)
        i, j = best // of.shape[1], best % of.shape[1]
        part[at, i, j] = part[at, i, j] & direct
        part[at, r, j] = part[at, r, j] | ~direct
        part[at, i, c] = part[at, i, c] | ~direct
        part[at, r, c] = part[at, r, c] | direct
        mask[short] = part


def _cancel(mask: Tensor, score: Tensor, price: Tensor) -> None:
    """Change `mask` in place until nothing gains. price: (tiles, m), where the search for cycles begins."""
    left = torch.arange(len(mask), device=mask.device)
    for _ in range(_ROUNDS * mask.shape[1]):
        part, of = mask[left], score[left]
        slack = _SLACK * of.amax((1, 2))[:, None]
        price, giver, moving = _search(_gains(part, of), price, slack)
        if not len(moving):
            return
        tile, taker = _on_cycles(giver).nonzero().unbind(1)
        giving = giver[tile, taker]
        gain = of[tile, taker] - of[tile, giving]
        column = gain.masked_fill_(~part[tile, giving] | part[tile, taker], -math.inf).argmax(1)
        mask[left[tile], giving, column] = False
        mask[left[tile], taker, column] = True
        left, price = left[moving], price[moving]


def _gains(mask: Tensor, score: Tensor) -> Tensor:
    """(tiles, m, m): what it gains, at best, to move one column from a row to another."""
    count, m, _ = score.shape
    kept = mask.nonzero()[:, 2].view(count, m, -1)
    free = score.masked_fill(mask, -math.inf).transpose(1, 2).reshape(count * m, m)
    start = torch.arange(0, count * m, m, device=mask.device)[:, None]
    best = torch.full_like(score, -math.inf)
    for column in kept.unbind(2):
        taken = free.index_select(0, (column + start).flatten()).view_as(score)
        torch.maximum(best, taken - score.gather(2, column[..., None]), out=best)
    return best


def _search(gains: Tensor, price: Tensor, slack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raise prices until none rises, or some tile has a cycle of gain.

    Returns the prices, (tiles, m); which row raised that of each row last, itself if none did; and the indices of the
    tiles where prices still rise.
    """
    count, m = price.shape
    rows = torch.arange(m, device=price.device).expand(count, m)
    giver = rows
    for number in range(m):
        offered, by = (price[:, :, None] + gains).max(1)
        rises = offered > price + slack
        price, giver = torch.where(rises, offered, price), torch.where(rises, by, giver)
        moving = rises.any(1).nonzero()[:, 0]
        if not len(moving) or (number > 1 and bool(_on_cycles(giver).any())):
            break
    return price, giver, moving


def _on_cycles(giver: Tensor) -> Tensor:
    """(tiles, m): the rows that come back to themselves, going from each row to its giver, over others."""
    far = giver
    for _ in range(giver.shape[1].bit_length()):
        far = far.gather(1, far)
    on = torch.zeros_like(giver, dtype=torch.bool).scatter_(1, far, True)
    return on & (giver != torch.arange(giver.shape[1], device=giver.device))
