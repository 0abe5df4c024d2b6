"""Weights as tiles of outputs x inputs, and the promise of V:N:M: rows of a tile share the columns that they use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nmbench.sparsity.mask import Grouping


@dataclass(frozen=True)
class Tiling:
    """How a weight is cut into tiles of `rows` outputs x `columns` inputs, one matrix a kernel position and group.

    grouping, outputs: which dimensions inputs and outputs run along.
    """

    grouping: Grouping
    outputs: Grouping
    rows: int
    columns: int

    def _matrices(self, tensor: Tensor) -> Tensor:
        """(..., outputs, inputs), a view."""
        groups = self.grouping.groups * self.outputs.groups  # one of them is 1, and the other of dimension 0
        apart = tensor.reshape(groups, tensor.shape[0] // groups, *tensor.shape[1:])
        return apart.movedim((self.outputs.dim + 1, self.grouping.dim + 1), (-2, -1))

    def split(self, tensor: Tensor) -> Tensor:
        """(tiles, rows, columns) of `tensor`, of the weight's shape; what is missing at the edges is zero."""
        matrices = self._matrices(tensor)
        o, i = matrices.shape[-2:]
        padded = torch.nn.functional.pad(matrices, (0, -i % self.columns, 0, -o % self.rows))
        split = padded.reshape(-1, -(-o // self.rows), self.rows, -(-i // self.columns), self.columns)
        return split.transpose(2, 3).reshape(-1, self.rows, self.columns)

    def join(self, tiles: Tensor, like: Tensor) -> Tensor:
        """What `split` made of a tensor like `like`, as that again."""
        *outer, o, i = self._matrices(like).shape
        split = tiles.reshape(-1, -(-o // self.rows), -(-i // self.columns), self.rows, self.columns)
        whole = split.transpose(2, 3).reshape(*outer, split.shape[1] * self.rows, -1)[..., :o, :i]
        return whole.movedim((-2, -1), (self.outputs.dim + 1, self.grouping.dim + 1)).reshape(like.shape)


@dataclass(frozen=True)
class SharedColumns:
    """V:N:M: of each tile of V outputs x M inputs at most `most` inputs have weights at all."""

    tiling: Tiling
    most: int

    def over(self, weight: Tensor) -> tuple[int, int]:
        """(number of tiles, number of tiles that use more columns). NaN counts as non-zero."""
        used = self.tiling.split((weight.detach() != 0).float()).amax(1).sum(1)
        return used.numel(), int((used > self.most).sum())
