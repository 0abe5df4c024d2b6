"""The products as torch operators, for torch.compile; plain calls go past them, which costs less.

nmbench_cpu::linear, nmbench_cpu::conv2d   the operators
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nmbench.kernels.cpu.build import Form
from nmbench.kernels.cpu.product import lanes_of, result_shape, run
from nmbench.kernels.problem import Problem, conv2d_problem, linear_problem, output_size
from nmbench.sparsity import NMPattern


def multiply(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    problem: Problem,
    form: Form,
    addend: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """As `run`, for any memory layout of x and addend, and the dtype of the problem."""
    inner = torch.bfloat16 if form is Form.DOT else torch.float32
    layout = torch.channels_last if problem.kind == "conv2d" else torch.contiguous_format
    x = x.to(inner).contiguous(memory_format=layout)
    shift = None if bias is None else bias.detach().float().contiguous()
    if addend is not None:
        if addend.shape != result_shape(x, problem):  # it is to be broadcast, then
            y = run(x, packed, shift, problem, form, lanes_of(problem, form)).to(problem.dtype) + addend
            return y.relu() if relu else y
        addend = addend.detach().to(inner).contiguous(memory_format=layout)
    return run(x, packed, shift, problem, form, lanes_of(problem, form), addend, relu).to(problem.dtype)


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
    return multiply(x, packed, bias, problem, Form(form), addend, relu)


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
    return multiply(x, packed, bias, problem, Form(form), addend, relu)


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
