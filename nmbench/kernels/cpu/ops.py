"""The products as torch operators, for torch.compile; plain calls go past them, which costs less.

nmbench_cpu::linear, nmbench_cpu::conv2d   the operators
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nmbench.kernels.cpu.build import Form
from nmbench.kernels.cpu.product import Product
from nmbench.kernels.problem import Problem, conv2d_problem, linear_problem, output_size
from nmbench.sparsity import NMPattern


@torch.library.custom_op("nmbench_cpu::linear", mutates_args=())
def linear(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    relu: bool,
    out: int,
    pattern: Sequence[int],
    form: int,
) -> Tensor:
    """x (..., in) -> (..., out)."""
    n, m = pattern
    problem = linear_problem((out, x.shape[-1]), tuple(x.shape), NMPattern(n, m), x.dtype, x.device)
    return Product(packed, problem, Form(form))(x, bias, addend, relu)


@linear.register_fake
def _(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    relu: bool,
    out: int,
    pattern: Sequence[int],
    form: int,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], out))


@torch.library.custom_op("nmbench_cpu::conv2d", mutates_args=())
def conv2d(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    relu: bool,
    weight: Sequence[int],
    pattern: Sequence[int],
    form: int,
    geometry: Sequence[int],
) -> Tensor:
    """x (N, in, H, W) -> (N, out, H', W'). geometry: stride, padding, dilation, two numbers each, and groups."""
    problem = _convolution(x, weight, pattern, geometry)
    return Product(packed, problem, Form(form))(x, bias, addend, relu)


@conv2d.register_fake
def _(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    relu: bool,
    weight: Sequence[int],
    pattern: Sequence[int],
    form: int,
    geometry: Sequence[int],
) -> Tensor:
    size = output_size(x.shape[2:], weight[2:], geometry[:2], geometry[2:4], geometry[4:6])
    return x.new_empty((x.shape[0], weight[0], *size)).to(memory_format=torch.channels_last)


def _convolution(x: Tensor, weight: Sequence[int], pattern: Sequence[int], geometry: Sequence[int]) -> Problem:
    n, m = pattern
    sh, sw, ph, pw, dh, dw, groups = geometry
    about = tuple(weight), tuple(x.shape), NMPattern(n, m), x.dtype, x.device
    return conv2d_problem(*about, (sh, sw), (ph, pw), (dh, dw), groups)
