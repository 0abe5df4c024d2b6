"""Is a product right? Against float64, measured by what the dense kernel of the same dtype gets wrong."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.kernels.problem import Problem

_TIMES_DENSE = 4.0
_ROUNDINGS = 2.0


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, problem: Problem, dtype: torch.dtype = torch.float64
) -> Tensor:
    """The problem in `dtype`."""
    shift = None if bias is None else bias.to(dtype)
    if problem.kind == "linear":
        return F.linear(x.to(dtype), weight.to(dtype), shift)
    options = (problem.stride, problem.padding, problem.dilation, problem.groups)
    return F.conv2d(x.to(dtype), weight.to(dtype), shift, *options)


def worst(y: Tensor, right: Tensor) -> float:
    """Largest |y - right|; infinite where y has another shape or is not finite."""
    if y.shape != right.shape:
        return float("inf")
    if not y.numel():
        return 0.0
    off = float((y.double() - right).abs().max())
    return off if off == off else float("inf")


def allowed(right: Tensor, dense_worst: float, dtype: torch.dtype, terms: int = 0) -> float:
    """Largest deviation that a backend whose result has `dtype` may show.

    A few times that of the dense kernel, and two roundings of the largest value, since a dense kernel may be right by
    luck; and what sums of `terms` products round in float32, in whatever order, which grows with the root of their
    number (in the result's dtype where that is finer). 0 for integers.
    """
    if not dtype.is_floating_point:
        return 0.0
    largest = float(right.abs().max()) if right.numel() else 0.0
    eps = torch.finfo(dtype).eps
    roundings = _ROUNDINGS * eps + min(eps, torch.finfo(torch.float32).eps) * terms**0.5
    return float(_TIMES_DENSE * dense_worst + roundings * largest)
