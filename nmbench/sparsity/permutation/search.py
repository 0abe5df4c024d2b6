"""In which order the columns of a matrix keep most of it under an N:M pattern: swaps of two columns, any N and M.

What a column adds to a group from which another was taken is known from the n-th largest of the rest, so that all swaps
are valued at once: sum over the rows of max(0, score - threshold).

    kept   what a pattern keeps of a score
    deal   columns dealt to the groups by their sum (Zhang et al. 2024, RIA), a start for large matrices
    find   swaps until none helps
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.sparsity.pattern import NMPattern

_WORK = 2**32  # elementwise operations to value all swaps once; of larger matrices some rows are looked at
_EXACT = 256  # columns up to which the best swap is made before the next is chosen
_ROUNDS = 400


def _grouped(score: Tensor, m: int) -> Tensor:
    """(rows, groups, M), a short last group filled up with zeros."""
    return F.pad(score, (0, -score.shape[1] % m)).reshape(len(score), -1, m)


def kept(score: Tensor, pattern: NMPattern) -> float:
    """Sum of the N largest of each M consecutive columns in each row. score: (rows, columns), not negative."""
    return float(_grouped(score, pattern.m).topk(pattern.n, dim=2).values.sum())


def deal(score: Tensor, m: int) -> Tensor:
    """(columns,) new position -> old column: by their sums, dealt to the groups forth and back.

    Columns beyond the last whole group stay where they are.
    """
    whole = score.shape[1] // m * m
    rows = score[:, :whole].sum(0).sort(stable=True).indices.view(m, -1).clone()
    rows[1::2] = rows[1::2].flip(1)
    return torch.cat([rows.t().reshape(-1), torch.arange(whole, score.shape[1], device=score.device)])


def find(score: Tensor, pattern: NMPattern) -> Tensor:
    """(columns,) new position -> old column, which keeps at least what the given order keeps.

    score: (rows, columns), not negative. Deterministic; a local optimum.
    """
    columns, m = score.shape[1], pattern.m
    order = torch.arange(columns, device=score.device)
    if pattern.n == m or columns <= m or not len(score):
        return order
    some = score[:: max(1, -(-len(score) * columns**2 // _WORK))]
    dealt = deal(score, m)
    start = dealt if columns > _EXACT and kept(score[:, dealt], pattern) > kept(score, pattern) else order
    found = start[_Swaps(some[:, start], pattern).order()]
    return found if kept(score[:, found], pattern) > kept(score, pattern) else order


class _Swaps:
    """A matrix while its columns are swapped.

    gain[i, j]: what position i of its group gains if its column gives way to that of position j; negative where it
    loses. Of positions in one group it says nothing.
    """

    def __init__(self, score: Tensor, pattern: NMPattern) -> None:
        self.score, self.n, self.m = score.clone(), pattern.n, pattern.m
        self.columns = score.shape[1]
        self.group = torch.arange(self.columns, device=score.device) // self.m
        self.positions = torch.arange(self.columns, device=score.device)
        self.gain = score.new_empty((self.columns, self.columns))
        self._value(torch.arange(int(self.group[-1]) + 1, device=score.device))

    def _value(self, groups: Tensor) -> None:
        """The rows of `gain` for the positions of `groups`."""
        members = groups[:, None] * self.m + torch.arange(self.m, device=groups.device)
        values = F.pad(self.score, (0, -self.columns % self.m))[:, members]  # rows, groups, M
        largest = values.topk(self.n + 1, dim=2).values
        last, next_ = largest[..., self.n - 1 : self.n], largest[..., self.n :]
        inside = values >= last
        threshold = torch.where(inside, next_, last)  # the n-th largest of the rest of the group
        loss = torch.where(inside, next_ - values, 0).sum(0).flatten()
        for i, position in enumerate(members.flatten().tolist()):
            if position < self.columns:
                above = self.score - threshold.flatten(1)[:, i, None]
                self.gain[position] = above.clamp_min_(0).sum(0) + loss[i]

    def order(self) -> Tensor:
        """Swap until no swap helps; position -> column at the start."""
        order = self.positions.clone()
        least = 1e-6 * float(self.score.sum()) / max(1, int(self.group[-1]))
        for _ in range(_ROUNDS):
            swaps = self._best(least)
            if not swaps:
                break
            there = self.positions.clone()
            for i, j in swaps:
                there[[i, j]] = there[[j, i]]
            order, self.score, self.gain = order[there], self.score[:, there], self.gain[:, there]
            self._value(torch.tensor(sorted({p // self.m for swap in swaps for p in swap}), device=order.device))
        return order

    def _best(self, least: float) -> list[tuple[int, int]]:
        """Swaps that gain more than `least`, best first, no group twice; of a small matrix only the first."""
        both = self.gain + self.gain.t()
        both[self.group[:, None] == self.group] = -torch.inf
        most, partner = both.max(1)
        swaps: list[tuple[int, int]] = []
        taken: set[int] = set()
        for i in most.argsort(descending=True, stable=True).tolist():
            if float(most[i]) <= least or (swaps and self.columns <= _EXACT):
                break
            j = int(partner[i])
            groups = {i // self.m, j // self.m}
            if not groups & taken:
                swaps.append((i, j))
                taken |= groups
        return swaps
