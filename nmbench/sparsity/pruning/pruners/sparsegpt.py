"""sparsegpt: column by column, what is pruned is made good by the columns that follow.

SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot (Frantar and Alistarh 2023),
IST-DASLab/sparsegpt 147d215, sparsegpt.py. Departures: N is what stays; a block ends with a group of M, so that M need
not divide it; where the damped Hessian is singular the damping is raised and told, not an error.
"""

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics, given
from nmbench.sparsity.pruning.columns import Columns, top
from nmbench.sparsity.pruning.hessian import inverse_factor


class Settings(BaseModel):
    """Hyper-parameters."""

    damp: float = Field(0.01, ge=0, description="what is added to the Hessian's diagonal, as a share of its mean")
    block: int = Field(128, ge=1, description="columns that are updated together")


class SparseGPT(Pruner):
    """The mask of each group from what the columns before it have made of it; updates as optimal brain surgeon's."""

    name = "sparsegpt"
    needs = frozenset({"gram"})
    settings = Settings

    def prune(self, weight: Tensor, stats: Statistics, columns: Columns) -> tuple[Tensor, Tensor]:
        """(new weight, mask)."""
        hessian = given(stats.gram, "gram") * (2 / max(1, stats.sequences))
        dead = hessian.diagonal() == 0
        hessian.diagonal()[dead] = 1
        left = weight.t().contiguous()  # by columns, which are changed one after the other
        left[dead] = 0
        inverse = inverse_factor(hessian, float(self.hyper["damp"]), stats)
        mask = torch.zeros_like(left, dtype=torch.bool)
        for groups in _blocks(columns.groups(len(left)), int(self.hyper["block"])):
            a, b = groups[0][0], groups[-1][1]
            errors = _one_block(left[a:b], mask[a:b], inverse[a:b, a:b], [(i - a, j - a) for i, j in groups], columns.n)
            left[b:].addmm_(inverse[a:b, b:].t(), errors, alpha=-1)
        return left.t().contiguous(), mask.t().contiguous()


def _blocks(groups: list[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Consecutive groups that hold at most `most` columns, or one group that holds more."""
    blocks: list[list[tuple[int, int]]] = [[]]
    for group in groups:
        if blocks[-1] and group[1] - blocks[-1][0][0] > most:
            blocks.append([])
        blocks[-1].append(group)
    return blocks


def _one_block(left: Tensor, mask: Tensor, inverse: Tensor, groups: list[tuple[int, int]], n: int) -> Tensor:
    """Prune the rows of `left` (columns of the weight), in place; the errors that the columns after it take over."""
    errors = torch.zeros_like(left)
    diagonal = inverse.diagonal()
    for start, end in groups:
        score = (left[start:end] / diagonal[start:end, None]).square()
        mask[start:end] = top(score.t(), n).t()
        for i in range(start, end):
            kept = torch.where(mask[i], left[i], 0)
            errors[i] = (left[i] - kept) / diagonal[i]
            left[i] = kept
            left[i + 1 :].addr_(inverse[i, i + 1 :], errors[i], alpha=-1)
    return errors
