"""oneDNN's products with a weight that was reordered beforehand: on many processors torch's fastest dense ones.

torch.compile with freezing uses the same operators; eager layers reorder at each call, or run another library.
"""

from typing import Protocol

import torch
from torch import Tensor

from nmbench.kernels.problem import Problem, output_size


class Product(Protocol):
    """What multiplies."""

    def __call__(
        self, x: Tensor, held: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """held: the reordered weight. addend: is added to the result. relu: is a ReLU the last step?"""


def prepack(weight: Tensor, problem: Problem) -> tuple[Tensor, Product] | None:
    """weight: of `problem.weight`, dense, on a CPU. The function is fastest on inputs of `problem.input`."""
    if problem.device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        return _linear(weight, problem) if problem.kind == "linear" else _conv2d(weight, problem)
    except (RuntimeError, AttributeError):  # this processor, or this torch, has no such operator for the dtype
        return None


def _linear(weight: Tensor, problem: Problem) -> tuple[Tensor, Product]:
    ops = torch.ops.mkldnn
    held = ops._reorder_linear_weight(weight.contiguous(), problem.rows)
    plain, binary = ops._linear_pointwise.default, ops._linear_pointwise.binary  # looked up once, not at each call

    def run(x: Tensor, held: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False) -> Tensor:
        y: Tensor
        if addend is None:
            y = plain(x, held, bias, "relu" if relu else "none", [], "")
            return y
        if addend.shape == (*x.shape[:-1], problem.weight[0]) and addend.dtype == x.dtype:
            y = binary(x, addend.contiguous(), held, bias, "add")
        else:  # it is to be broadcast
            y = plain(x, held, bias, "none", [], "") + addend
        return y.relu() if relu else y

    return held, run


def _conv2d(weight: Tensor, problem: Problem) -> tuple[Tensor, Product]:
    ops = torch.ops.mkldnn
    about = list(problem.padding), list(problem.stride), list(problem.dilation), problem.groups
    held = ops._reorder_convolution_weight(weight.contiguous(), *about, list(problem.input))
    plain, binary = ops._convolution_pointwise.default, ops._convolution_pointwise.binary

    def run(x: Tensor, held: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False) -> Tensor:
        y: Tensor
        if addend is None:
            y = plain(x, held, bias, *about, "relu" if relu else "none", [], "")
            return y
        if addend.shape == result_shape(x) and addend.dtype == x.dtype:
            last = "relu" if relu else None
            y = binary(x, addend, held, bias, *about, "add", 1.0, last, [], "")
            return y
        y = plain(x, held, bias, *about, "none", [], "") + addend
        return y.relu() if relu else y

    def result_shape(x: Tensor) -> tuple[int, ...]:
        size = output_size(x.shape[2:], problem.weight[2:], problem.stride, problem.padding, problem.dilation)
        return x.shape[0], problem.weight[0], *size

    return held, run
