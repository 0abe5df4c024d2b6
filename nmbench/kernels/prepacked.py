"""oneDNN's products with a weight that was reordered beforehand: on many processors torch's fastest dense ones.

prepack    (weight, input's shape) -> the reordered weight and the function, or None where oneDNN has none here
Product    the function: (x, reordered weight, bias) -> result

torch.compile with freezing uses the same operators; eager layers reorder at each call, or run another library.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nmbench.kernels.problem import Problem

__all__ = ["Product", "prepack"]

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def prepack(weight: Tensor, problem: Problem) -> tuple[Tensor, Product] | None:
    """weight: of `problem.weight`, dense, on a CPU. The function takes inputs of `problem.input` alone."""
    if problem.device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        return _linear(weight, problem) if problem.kind == "linear" else _conv2d(weight, problem)
    except (RuntimeError, AttributeError):  # this processor, or this torch, has no such operator for the dtype
        return None


def _linear(weight: Tensor, problem: Problem) -> tuple[Tensor, Product]:
    ops = torch.ops.mkldnn
    held = ops._reorder_linear_weight(weight.contiguous(), problem.rows)

    def run(x: Tensor, held: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = ops._linear_pointwise(x, held, bias, "none", [], "")
        return y

    return held, run


def _conv2d(weight: Tensor, problem: Problem) -> tuple[Tensor, Product]:
    ops = torch.ops.mkldnn
    about = list(problem.padding), list(problem.stride), list(problem.dilation), problem.groups
    held = ops._reorder_convolution_weight(weight.contiguous(), *about, list(problem.input))

    def run(x: Tensor, held: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = ops._convolution_pointwise(x, held, bias, *about, "none", [], "")
        return y

    return held, run
