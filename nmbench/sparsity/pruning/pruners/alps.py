"""alps: ADMM whose penalty grows as the support settles, then conjugate gradients on what it settled on.

ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models (Meng et al. 2024),
mazumder-lab/ALPS 8af9e6b, alps.py. Departures: none meant; the path of the support is chaotic, so that results agree in
the error and not weight by weight.
"""

from dataclasses import dataclass

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics, given
from nmbench.sparsity.pruning.columns import Columns

_EVERY, _SETTLED = 3, 30  # iterations between looks at the support; before it may count as settled
#: by what share of N:M the support changed -> what the penalty is multiplied with
_GROWTH = ((0.1, 1.3), (0.005, 1.2))


class Settings(BaseModel):
    """Hyper-parameters."""

    damp: float = Field(0.01, ge=0, description="what is added to the diagonal of X Xᵀ, as a share of its mean")
    penalty: float = Field(0.1, gt=0, description="of the first iterations")
    iterations: int = Field(300, ge=1, description="at most")
    steps: int = Field(10, ge=0, description="of conjugate gradients, at most")


@dataclass
class _Problem:
    """Of the layer with inputs of unit norm: gram (columns, columns) and its eigenvalues; target = weight @ gram."""

    gram: Tensor
    values: Tensor
    vectors: Tensor
    weight: Tensor
    target: Tensor

    def inverse(self, penalty: float) -> Tensor:
        """Of gram + penalty * I."""
        return ((self.vectors / (self.values + penalty)) @ self.vectors.t()).to(self.gram.dtype)


class ALPS(Pruner):
    """Best reconstruction of the pruners here; eigenvalues and up to 300 products with a square matrix a layer."""

    name = "alps"
    needs = frozenset({"gram"})
    settings = Settings

    def prune(self, weight: Tensor, stats: Statistics, columns: Columns) -> tuple[Tensor, Tensor]:
        """(new weight, mask)."""
        gram = given(stats.gram, "gram").clone()
        gram.diagonal().add_(float(self.hyper["damp"]) * gram.diagonal().mean())
        norm = gram.diagonal().sqrt() + 1e-8
        gram = gram / norm / norm[:, None]
        values, vectors = torch.linalg.eigh(gram.double())
        problem = _Problem(gram, values, vectors, weight * norm, (weight * norm) @ gram)
        settled = _settle(problem, columns, float(self.hyper["penalty"]), int(self.hyper["iterations"]))
        mask = columns.top(settled.abs())
        solved = _conjugate_gradients(problem, torch.where(mask, settled, 0), mask, int(self.hyper["steps"]))
        return solved / norm, mask


def _settle(problem: _Problem, columns: Columns, penalty: float, iterations: int) -> Tensor:
    """The weight whose largest of each group are the support."""
    support = columns.top(problem.weight.abs())
    first = nearest = torch.where(support, problem.weight, 0)
    weight, dual, grown = problem.weight, torch.zeros_like(first), False
    inverse, most = problem.inverse(penalty), float(support.sum())
    before = support
    for step in range(1, iterations + 1):
        weight = (problem.target - dual + penalty * nearest) @ inverse
        wanted = weight + dual / penalty
        support = columns.top(wanted.abs())
        nearest = torch.where(support, wanted, 0)
        dual = dual + penalty * (weight - nearest)
        if step % _EVERY:
            continue
        changed = float((support ^ before).sum())
        if not changed and grown:
            break
        factor = next((by for share, by in _GROWTH if changed / most > share), 1.1 if grown else 0.2)
        if changed and factor < 1:  # the penalty is too large to begin with: start again with less
            nearest, dual = first, torch.zeros_like(dual)
        grown |= factor > 1
        penalty, before = min(penalty * factor, 1e6), support
        inverse = problem.inverse(penalty)
        if step > _SETTLED and changed / most < 3e-4:
            break
    return weight


def _conjugate_gradients(problem: _Problem, weight: Tensor, mask: Tensor, steps: int) -> Tensor:
    """The least-squares weight on `mask`, each row by itself, from `weight` on."""
    residual = (problem.target - weight @ problem.gram) * mask
    direction = residual
    square = residual.square().sum(1, keepdim=True)
    for _ in range(steps):
        image = direction @ problem.gram
        curvature = (direction * image).sum(1, keepdim=True)
        rate = torch.where(curvature > 0, square / curvature, 0)
        weight = weight + rate * direction
        residual = (residual - rate * image) * mask
        after = residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(square > 0, after / square, 0) * direction
        square = after
    return weight
