"""The backend `cpu`: our own kernels for processors (nmbench.kernels.cpu), compiled on first use.

At pruned positions nothing is multiplied: an infinity or NaN of the input that only pruned entries meet does not reach
the result, or does so where a group keeps fewer entries than it may. At kept ones it does as in a dense product.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from nmbench.kernels.backend import DEPTHWISE, Backend, Bound, Kind, Problem, Refusal, Settings
from nmbench.kernels.cpu import ops
from nmbench.kernels.cpu.build import Form, covering, library, rows_library
from nmbench.kernels.cpu.product import FEW_ROWS, Product, form_for, lanes_of, pack, tile_for, unpack
from nmbench.kernels.problem import dtype_name
from nmbench.sparsity.memory import watched

_DTYPES = (torch.float32, torch.bfloat16)


class Cpu(Backend):
    """A lane of a vector is one output; a permute picks its operands out of the inputs (see lanes.c)."""

    name = "cpu"
    fuses = True

    def refusal(self, problem: Problem) -> Refusal | None:
        """Why not: device, dtype, pattern, depthwise, no compiler. The first call for a pattern compiles it."""
        if problem.device != "cpu":
            return Refusal(f"runs on a CPU, not on {problem.device}", Kind.MACHINE)
        if problem.pattern.axis != "input":
            return Refusal("axis 'kernel': groups do not run along the reduction", Kind.PATTERN)
        if problem.dtype not in _DTYPES:
            return Refusal(f"no kernel for {dtype_name(problem.dtype)}", Kind.DTYPE)
        if problem.depthwise:
            return DEPTHWISE
        ours = covering(problem.pattern)
        if ours is None:
            return Refusal(f"{problem.pattern} leaves nothing out in groups of 2, 4, 8 or 16", Kind.PATTERN)
        built = library(ours)
        return Refusal(f"not compiled: {built}", Kind.MACHINE) if isinstance(built, str) else None

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """{name of the form: bytes}. ValueError if the weight breaks the pattern."""
        lanes = lanes_of(problem)
        form = form_for(problem, lanes)
        return {form.name.lower(): pack(weight, problem, form, lanes)}

    def unpack(self, packed: Mapping[str, Tensor], problem: Problem) -> Tensor:
        """The weight that was packed."""
        form, held = _held(packed)
        return unpack(held, problem, form, lanes_of(problem, form))

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """Tiles of other sizes, where many rows leave a choice."""
        lanes = lanes_of(problem).lanes
        if problem.rows <= FEW_ROWS or lanes < 16:
            return [()]
        rows, _ = tile_for(problem.rows, lanes)
        return [(), (("rows", 4), ("blocks", 4))] + ([(("rows", 6), ("blocks", 2))] if rows != 6 else [])

    def linear(
        self,
        x: Tensor,
        packed: Mapping[str, Tensor],
        bias: Tensor | None,
        problem: Problem,
        addend: Tensor | None = None,
        relu: bool = False,
    ) -> Tensor:
        """x (..., in) -> (..., out)."""
        _check(x, problem, -1, problem.weight[1])
        form, held = _held(packed)
        if watched():
            y: Tensor = ops.linear(x, held, bias, addend, relu, *_about(problem, form), [])
            return y
        return Product(problem, form)(x, held, bias, addend, relu)

    def conv2d(
        self,
        x: Tensor,
        packed: Mapping[str, Tensor],
        bias: Tensor | None,
        problem: Problem,
        addend: Tensor | None = None,
        relu: bool = False,
    ) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W'), channels_last; an x that is not channels_last is copied."""
        _check(x, problem, 1, problem.weight[1] * problem.groups)
        form, held = _held(packed)
        if watched():
            geometry = [*problem.stride, *problem.padding, *problem.dilation, problem.groups]
            y: Tensor = ops.conv2d(x, held, bias, addend, relu, *_about(problem, form), geometry)
            return y
        return Product(problem, form)(x, held, bias, addend, relu)

    def bound(self, packed: Mapping[str, Tensor], problem: Problem) -> Bound:
        """The product, with all that is the same at each call worked out."""
        form, held = _held(packed)
        product, linear = Product(problem, form), problem.kind == "linear"
        dim, size = (-1, problem.weight[1]) if linear else (1, problem.weight[1] * problem.groups)

        def run(x: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False) -> Tensor:
            _check(x, problem, dim, size)
            return product(x, held, bias, addend, relu)

        return run


class CpuRows(Cpu):
    """A lane of a vector is one row of the product, and kept weights are broadcast (see rows.c): for many rows."""

    name = "cpu-rows"

    def refusal(self, problem: Problem) -> Refusal | None:
        """Why not: device, dtype, pattern, depthwise, few rows, no compiler."""
        if problem.device != "cpu":
            return Refusal(f"runs on a CPU, not on {problem.device}", Kind.MACHINE)
        if problem.pattern.axis != "input" or problem.pattern.n == problem.pattern.m:
            return Refusal(f"{problem.pattern}: groups along the reduction that leave something out", Kind.PATTERN)
        if problem.dtype != torch.float32:
            return Refusal(f"no kernel for {dtype_name(problem.dtype)}", Kind.DTYPE)
        if problem.depthwise:
            return DEPTHWISE
        built = rows_library()
        return Refusal(f"not compiled: {built}", Kind.MACHINE) if isinstance(built, str) else None

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """{name of the form: bytes}. ValueError if the weight breaks the pattern."""
        return {"rows": pack(weight, problem, Form.ROWS, lanes_of(problem, Form.ROWS))}

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """Its default."""
        return [()]


def _about(problem: Problem, form: Form) -> tuple[list[int], list[int], int]:
    """The weight's shape, its pattern and its form, as the operators take them."""
    return list(problem.weight), [problem.pattern.n, problem.pattern.m], int(form)


def _held(packed: Mapping[str, Tensor]) -> tuple[Form, Tensor]:
    """How the weight was packed, and its bytes."""
    ((name, held),) = packed.items()
    return Form[name.upper()], held


def _check(x: Tensor, problem: Problem, dim: int, size: int) -> None:
    """Raises RuntimeError for an input that the packed weight cannot meet, before its memory is touched."""
    if x.dtype != problem.dtype or x.device.type != "cpu":
        given = f"{dtype_name(x.dtype)} on {x.device.type}"
        raise RuntimeError(f"an input of {dtype_name(problem.dtype)} on a CPU is needed, not of {given}")
    if x.dim() < 1 or (problem.kind == "conv2d" and x.dim() != 4) or x.shape[dim] != size:
        raise RuntimeError(f"an input of shape {tuple(x.shape)} does not fit a weight of shape {problem.weight}")
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a packed weight is for inference: there is no gradient; use torch.no_grad()")
