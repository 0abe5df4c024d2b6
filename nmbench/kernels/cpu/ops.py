"""The products as torch operators, for torch.compile; plain calls go past them, which costs less.

nmbench_cpu::linear   x (..., in) -> (..., out)
nmbench_cpu::conv2d   x (N, in, H, W) -> (N, out, H', W'); geometry: stride, padding, dilation, two numbers each, groups

They are registered for the CPU directly: what torch.library.custom_op puts around a function takes longer than a
product of few rows.
"""

import functools
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from nmbench.kernels.cpu.build import ISA_VARIABLE, Form
from nmbench.kernels.cpu.product import Product
from nmbench.kernels.problem import conv2d_problem, linear_problem, output_size
from nmbench.sparsity import NMPattern

Numbers = Sequence[int]

_SCHEMA = (
    "(Tensor x, Tensor packed, Tensor? bias, Tensor? addend, bool relu, "
    "int[] weight, int[] pattern, int form, int[] geometry) -> Tensor"
)


def _run(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    relu: bool,
    weight: Numbers,
    pattern: Numbers,
    form: int,
    geometry: Numbers,
) -> Tensor:
    isa = os.environ.get(ISA_VARIABLE, "")
    product = _product(tuple(weight), tuple(pattern), form, tuple(geometry), x.dtype, isa)
    return product(x, packed, bias, addend, relu)


@functools.lru_cache(4096)
def _product(weight: Numbers, pattern: Numbers, form: int, geometry: Numbers, dtype: torch.dtype, isa: str) -> Product:
    """Of any input of that dtype. isa: of the kernels, which depend on it."""
    cpu, (n, m) = torch.device("cpu"), pattern
    if not geometry:
        return Product(linear_problem(tuple(weight), (1, weight[1]), NMPattern(n, m), dtype, cpu), Form(form))
    sh, sw, ph, pw, dh, dw, groups = geometry
    least = [d * (k - 1) + 1 for d, k in zip((dh, dw), weight[2:], strict=True)]
    about = tuple(weight), (1, weight[1] * groups, *least), NMPattern(n, m), dtype, cpu
    return Product(conv2d_problem(*about, (sh, sw), (ph, pw), (dh, dw), groups), Form(form))


def _fake(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    relu: bool,
    weight: Numbers,
    pattern: Numbers,
    form: int,
    geometry: Numbers,
) -> Tensor:
    if not geometry:
        return x.new_empty((*x.shape[:-1], weight[0]))
    size = output_size(x.shape[2:], weight[2:], geometry[:2], geometry[2:4], geometry[4:6])
    return x.new_empty((x.shape[0], weight[0], *size)).to(memory_format=torch.channels_last)


_operators = torch.library.Library("nmbench_cpu", "DEF")  # type: ignore[no-untyped-call]
for _name in ("linear", "conv2d"):
    _operators.define(_name + _SCHEMA)  # type: ignore[no-untyped-call]
    _operators.impl(_name, _run, "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"nmbench_cpu::{_name}", _fake)

linear, conv2d = torch.ops.nmbench_cpu.linear.default, torch.ops.nmbench_cpu.conv2d.default
