"""N:M groups along the columns of a weight that is read as a matrix (rows, columns)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.sparsity.pattern import NMPattern


def top(score: Tensor, n: int) -> Tensor:
    """bool: the n largest of the last dimension; ties keep the lowest index, NaN is the smallest."""
    order = score.nan_to_num(nan=-torch.inf).sort(dim=-1, descending=True, stable=True).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order[..., :n], True)


@dataclass(frozen=True)
class Columns:
    """Where the groups of `pattern` lie: the columns come in runs of `size`, one run for each kernel position.

    A run that M does not divide ends in a short group, which keeps at most N like any other.
    """

    pattern: NMPattern
    size: int

    @property
    def n(self) -> int:
        """How many weights of a group stay."""
        return self.pattern.n

    @property
    def m(self) -> int:
        """How many weights a group has."""
        return self.pattern.m

    def groups(self, columns: int) -> list[tuple[int, int]]:
        """(first column, end) of each group."""
        runs = range(0, columns, self.size)
        return [(a, min(a + self.m, run + self.size)) for run in runs for a in range(run, run + self.size, self.m)]

    def grouped(self, values: Tensor, filler: float) -> Tensor:
        """values: (..., columns) -> (..., groups, M); short groups are filled up with `filler`."""
        outer = values.shape[:-1]
        runs = F.pad(values.reshape(*outer, -1, self.size), (0, -self.size % self.m), value=filler)
        return runs.reshape(*outer, -1, self.m)

    def ungrouped(self, groups: Tensor) -> Tensor:
        """(..., groups, M) -> (..., columns), the opposite of `grouped`."""
        outer = groups.shape[:-2]
        runs = groups.reshape(*outer, -1, -(-self.size // self.m) * self.m)
        return runs[..., : self.size].reshape(*outer, -1)

    def top(self, score: Tensor) -> Tensor:
        """bool of the shape of `score` (rows, columns): the N largest of each group stay."""
        return self.ungrouped(top(self.grouped(score, -torch.inf), self.n))
