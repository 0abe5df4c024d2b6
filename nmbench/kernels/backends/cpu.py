"""The backend `cpu`: our own kernels for processors (nmbench.kernels.cpu), compiled on first use.

At pruned positions nothing is multiplied: an infinity or NaN of the input that only pruned entries meet does not reach
the result, or does so where a group keeps fewer entries than it may. At kept ones it does as in a dense product.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from nmbench.kernels.backend import DEPTHWISE, Backend, Bound, Kind, Problem, Refusal, Settings
from nmbench.kernels.cpu import ops
from nmbench.kernels.cpu.build import Form, Lanes, covering, library, prepare, rows_library
from nmbench.kernels.cpu.product import FEW_ROWS, Product, form_for, lanes_of, pack, tile_for, unpack
from nmbench.kernels.problem import dtype_name
from nmbench.sparsity import NMPattern
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

    def prepare(self, patterns: Iterable[NMPattern]) -> None:
        """An object for each pattern."""
        prepare(patterns)

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """{name of the form: bytes}. ValueError if the weight breaks the pattern."""
        lanes = lanes_of(problem)
        form = form_for(problem, lanes)
        return {_named(form, lanes): pack(weight, problem, form, lanes)}

    def unpack(self, packed: Mapping[str, Tensor], problem: Problem) -> Tensor:
        """The weight that was packed."""
        form, lanes, held = _held(packed)
        return unpack(held, problem, form, lanes_of(problem, form, lanes))

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
        """x (..., in) -> (..., out), or of a convolution (N, in, H, W) -> (N, out, H', W'), channels_last.

        An image that is not channels_last is copied.
        """
        form, lanes, held = _held(packed)
        if not watched():
            return Product(problem, form, lanes)(x, held, bias, addend, relu)
        if problem.kind == "linear":
            operator, geometry = ops.linear, []
        else:
            operator = ops.conv2d
            geometry = [*problem.stride, *problem.padding, *problem.dilation, problem.groups]
        y: Tensor = operator(x, held, bias, addend, relu, *_about(problem, form, lanes), geometry)
        return y

    conv2d = linear

    def bound(self, packed: Mapping[str, Tensor], problem: Problem) -> Bound:
        """The product, with all that is the same at each call worked out."""
        form, lanes, held = _held(packed)
        product = Product(problem, form, lanes)

        def run(x: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False) -> Tensor:
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

    def prepare(self, patterns: Iterable[NMPattern]) -> None:
        """One object for all patterns."""
        rows_library()

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """{name of the form: bytes}. ValueError if the weight breaks the pattern."""
        lanes = lanes_of(problem, Form.ROWS)
        return {_named(Form.ROWS, lanes): pack(weight, problem, Form.ROWS, lanes)}

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """Its default."""
        return [()]


def _about(problem: Problem, form: Form, lanes: int) -> tuple[list[int], list[int], list[int]]:
    """The weight's shape, its pattern, and how it is packed, as the operators take them."""
    return list(problem.weight), [problem.pattern.n, problem.pattern.m], [int(form), lanes]


def _named(form: Form, lanes: Lanes) -> str:
    """Of packed bytes: how they were packed, and for vectors of how many lanes, on which their layout depends."""
    return f"{form.name.lower()}_{lanes.lanes}"


def _held(packed: Mapping[str, Tensor]) -> tuple[Form, int, Tensor]:
    """How the weight was packed, for how many lanes, and its bytes."""
    ((name, held),) = packed.items()
    form, _, lanes = name.rpartition("_")
    return Form[form.upper()], int(lanes), held
