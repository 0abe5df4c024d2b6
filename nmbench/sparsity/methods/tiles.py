"""M x M tiles of a weight, rows along the outputs and columns along the reduction dimension, and masks of them.

into_tiles, from_tiles   a layer's weight <-> (tiles, M, M)
transposable_mask        at most N of each row and column of a tile, by the largest kept sum
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

from nmbench.sparsity.layer import Layer

#: temperature and passes of the relaxed solution; see transposable_mask
_TEMPERATURE, _PASSES = 40.0, 60
#: tiles that are solved together: what fits a core's cache
_TOGETHER = 4096


def _matrices(layer: Layer, tensor: Tensor) -> Tensor:
    """`tensor`, of the weight's shape, as (matrices, outputs, inputs): one for each kernel position and group."""
    groups = layer.outputs.groups if layer.grouping.dim == 1 else layer.grouping.groups
    first, second = tensor.shape[0] // groups, tensor.shape[1]
    made = tensor.reshape(groups, first, second, -1).permute(0, 3, 1, 2)
    made = made if layer.grouping.dim == 1 else made.transpose(2, 3)
    return made.reshape(-1, made.shape[2], made.shape[3])


def _from_matrices(layer: Layer, matrices: Tensor, like: Tensor) -> Tensor:
    groups = layer.outputs.groups if layer.grouping.dim == 1 else layer.grouping.groups
    made = matrices if layer.grouping.dim == 1 else matrices.transpose(1, 2)
    made = made.reshape(groups, -1, made.shape[1], made.shape[2]).permute(0, 2, 3, 1)
    return made.reshape(like.shape)


def into_tiles(layer: Layer, tensor: Tensor, rows: int, columns: int) -> Tensor:
    """(tiles, rows, columns) of `tensor`, of the weight's shape; what is missing at the edges is zero."""
    matrices = _matrices(layer, tensor)
    count, o, i = matrices.shape
    padded = torch.nn.functional.pad(matrices, (0, -i % columns, 0, -o % rows))
    split = padded.reshape(count, -(-o // rows), rows, -(-i // columns), columns)
    return split.transpose(2, 3).reshape(-1, rows, columns)


def from_tiles(layer: Layer, tiles: Tensor, like: Tensor) -> Tensor:
    """What `into_tiles` made of a tensor like `like`, as that again."""
    count, o, i = _matrices(layer, like).shape
    rows, columns = tiles.shape[1:]
    split = tiles.reshape(count, -(-o // rows), -(-i // columns), rows, columns).transpose(2, 3)
    matrices = split.reshape(count, split.shape[1] * rows, split.shape[3] * columns)
    return _from_matrices(layer, matrices[:, :o, :i], like)


@functools.cache
def _all_masks(n: int, m: int) -> Tensor:
    """(masks, m * m): every 0/1 tile with n in each row and column."""
    rows = [torch.tensor([float(i in kept) for i in range(m)]) for kept in itertools.combinations(range(m), n)]
    made = torch.stack([torch.stack(choice) for choice in itertools.product(rows, repeat=m)])
    return made[(made.sum(1) == n).all(1)].flatten(1)


def transposable_mask(score: Tensor, n: int) -> Tensor:
    """The mask that keeps n of each row and column of each tile, with the largest sum, or near it.

    score: (tiles, m, m), not negative. Returns bool of that shape, exactly n in each row and column.

    Up to m = 4 all masks are compared. Above, as Meng et al. 2025 (TSENOR) describe it: entropy-regularised transport
    by Dykstra's projections (rows to n, columns to n, each entry to at most 1), rounded greedily, a gap filled by the
    best swap; here with a pass of 2 x 2 exchanges at the end. Their code was not seen.
    """
    parts = [_solved(part, n) for part in torch.split(score.float(), _TOGETHER)]
    return torch.cat(parts) if parts else torch.zeros_like(score, dtype=torch.bool)


def _solved(score: Tensor, n: int) -> Tensor:
    m = score.shape[1]
    if m <= 4:
        masks = _all_masks(n, m).to(score)
        return masks[(score.flatten(1) @ masks.t()).argmax(1)].view_as(score).bool()
    return _exchanged(_filled(_rounded(_relaxed(score, n), n), score, n), score)


def _relaxed(score: Tensor, n: int) -> Tensor:
    """Near-integral shares, (tiles, m, m), whose rows and columns sum to about n; tiles last, for long inner loops."""
    top = score.amax((1, 2), keepdim=True).clamp_(min=torch.finfo(score.dtype).tiny)
    share = ((score / top - 1) * _TEMPERATURE).exp_().permute(1, 2, 0).contiguous()
    dual = torch.ones_like(share)
    for _ in range(_PASSES):
        share.mul_(n / share.sum(1, keepdim=True))
        share.mul_(n / share.sum(0, keepdim=True))
        share.mul_(dual)
        torch.clamp(share, min=1.0, out=dual)
        share.div_(dual)
    return share.permute(2, 0, 1)


def _rounded(share: Tensor, n: int) -> Tensor:
    """Greedily, the largest share first; some rows and columns may end short of n."""
    count, m, _ = share.shape
    order = share.reshape(count, -1).argsort(1, descending=True).t().contiguous()
    mask = torch.zeros(count, m * m, dtype=torch.bool, device=share.device)
    rows = torch.zeros(count, m, dtype=torch.int8, device=share.device)
    columns, at = rows.clone(), torch.arange(count, device=share.device)
    for place in order:
        row, column = place // m, place % m
        taken = (rows[at, row] < n) & (columns[at, column] < n)
        mask[at, place] = taken
        rows[at, row] += taken
        columns[at, column] += taken
    return mask.view(count, m, m)


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


def _exchanged(mask: Tensor, score: Tensor) -> Tensor:
    """For each pair of rows, the best exchange of two columns that they keep, where it gains."""
    at = torch.arange(len(mask), device=mask.device)
    for a, b in itertools.combinations(range(mask.shape[1]), 2):
        gain = score[:, b] - score[:, a]  # of moving a column from a to b
        there = gain.masked_fill(~(mask[:, a] & ~mask[:, b]), -math.inf).max(1)
        back = (-gain).masked_fill(~(mask[:, b] & ~mask[:, a]), -math.inf).max(1)
        better = there.values + back.values > 0
        for column, to_b in ((there.indices, True), (back.indices, False)):
            mask[at, a, column] = torch.where(better, torch.tensor(not to_b, device=mask.device), mask[at, a, column])
            mask[at, b, column] = torch.where(better, torch.tensor(to_b, device=mask.device), mask[at, b, column])
    return mask
