"""The Hessian of a layer's squared error, 2 X Xᵀ: its inverse, and more damping where that cannot be had."""

from __future__ import annotations

import torch
from torch import Tensor

from nmbench.sparsity.pruning.base import Statistics

_LEAST, _MOST = 1e-4, 1e6


def inverse_factor(hessian: Tensor, damp: float, stats: Statistics) -> Tensor:
    """Upper Cholesky factor of the inverse of `hessian` + damp * (mean of its diagonal) * I.

    Where that is singular in this precision `damp` is raised tenfold until it is not, which `stats.damp` tells.
    Raises ValueError if it never is.
    """
    mean = float(hessian.diagonal().mean())
    asked = damp
    upper: Tensor
    while damp <= _MOST:
        damped = hessian.clone()
        damped.diagonal().add_(damp * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and bool(torch.isfinite(upper).all()):
                stats.damp = damp if damp != asked else None
                return upper
        damp = max(10 * damp, _LEAST)
    raise ValueError("the Hessian of its inputs cannot be inverted, however much it is damped")


def relative_error(weight: Tensor, pruned: Tensor, gram: Tensor) -> tuple[float, float]:
    """Squared norms of (weight - pruned) X and of weight X, for the X of which `gram` is X Xᵀ."""
    lost = weight - pruned
    return float(((lost @ gram) * lost).sum()), float(((weight @ gram) * weight).sum())
