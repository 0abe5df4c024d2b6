"""What the libraries for semi-structured (2 of 4) weights need around their one product.

Whether a weight qualifies is read off the weight, not off its pattern: 2:4, 1:4, 2:8, 1:8, 1:16 and 2:16 always do.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.kernels.backend import DEPTHWISE, Backend, Kind, Problem, Refusal, Settings, no_gpu
from nmbench.kernels.backends import libraries
from nmbench.kernels.problem import dtype_name, from_rows, input_matrix, is_float8, weight_matrix

_MOST_GROUPS = 8  # a product for each: more are launches, not arithmetic


@dataclass(frozen=True)
class Sizes:
    """Multiples for a weight of (outs, depth) and an input of (rows, depth)."""

    outs: int
    depth: int
    rows: int


def keeps_two_of_four(matrix: Tensor) -> Tensor:
    """matrix: (out, depth), depth a multiple of 4 -> bool 0-d."""
    return (_in_fours(matrix) <= 2).all()


def _in_fours(matrix: Tensor) -> Tensor:
    """Non-zeros of each aligned four. Of 8-bit floats by their bits, for which every device has the operators."""
    nonzero = (matrix.view(torch.uint8) & 0x7F if is_float8(matrix.dtype) else matrix) != 0
    return nonzero.view(-1, 4).sum(1)


class SemiStructured(Backend):
    """A library that multiplies a 2-of-4 weight, whose sizes are multiples of `sizes(dtype)`, with a dense matrix."""

    #: torch's own constants for the library, by dtype
    constraints: ClassVar[Mapping[torch.dtype, Any]]

    def sizes(self, dtype: torch.dtype) -> Sizes | None:
        """None if the library does not take the dtype. Nor float32, which is rounded to TF32, or is 1 of 2 there."""
        least = self.constraints.get(dtype)
        if least is None or dtype == torch.float32:
            return None
        return Sizes(least.sparse_min_rows, least.sparse_min_cols, least.dense_min_cols)

    def missing(self, problem: Problem) -> Refusal | None:
        """Why the library cannot be used on the problem's device, or None; it is asked by trying."""
        return libraries.usable(self.name, problem.dtype)

    # -- which problems -----------------------------------------------------------------------------------------
    def refusal(self, problem: Problem) -> Refusal | None:
        """Device, dtype, library, depthwise and other small groups, sizes that padding would more than double."""
        sizes = self.sizes(problem.dtype)
        if sizes is None and problem.device == "cuda":
            return Refusal(f"unsupported dtype {dtype_name(problem.dtype)}", Kind.DTYPE)
        return no_gpu(problem) or _shape_refusal(problem, self._sizes(problem)) or self.missing(problem)

    # -- weights ------------------------------------------------------------------------------------------------
    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """The library's tensors, a group of the convolution each along dimension 0.

        Raises ValueError if more than two of an aligned four are not zero.
        """
        sizes = self._sizes(problem)
        channels, outs, _ = _padded(problem, sizes)
        matrix = weight.detach() if problem.kind == "linear" else weight_matrix(weight.detach(), channels)
        parts = []
        for part in matrix.chunk(problem.groups):
            full = _fill(part, channels if problem.kind == "linear" else part.shape[1], outs)
            if not bool(keeps_two_of_four(full)):
                raise ValueError(f"violates the pattern: more than two non-zeros in four {_where(full, problem)}")
            parts.append(libraries.compressed(self.name, full))
        return {f"part{i}": torch.stack(tensors) for i, tensors in enumerate(zip(*parts, strict=True))}

    # -- products -----------------------------------------------------------------------------------------------
    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (..., in) -> (..., out)."""
        y = self._product(x.reshape(-1, x.shape[-1]), packed, bias, problem, 0)
        return y.view(*x.shape[:-1], problem.weight[0])

    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W'), channels_last; one product for each group."""
        channels = _padded(problem, self._sizes(problem))[0]
        parts = x.chunk(problem.groups, 1)
        shifts = [None] * problem.groups if bias is None else list(bias.chunk(problem.groups))
        rows = [
            self._product(input_matrix(part, channels, problem), packed, shift, problem, number)
            for number, (part, shift) in enumerate(zip(parts, shifts, strict=True))
        ]
        return from_rows(rows[0] if len(rows) == 1 else torch.cat(rows, 1), x, problem)

    def _sizes(self, problem: Problem) -> Sizes:
        sizes = self.sizes(problem.dtype)
        if sizes is None:
            raise ValueError(f"{self.name} has no {problem.dtype}")
        return sizes

    def _product(
        self, matrix: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem, group: int
    ) -> Tensor:
        """matrix: (rows, depth) -> (rows, outs of the group), contiguous."""
        full, shift, outs = self._operands(matrix, bias, problem)
        wanted = problem.weight[0] // problem.groups
        parts, settings = [part[group] for part in packed.values()], [value for _, value in problem.settings]
        y: Tensor = libraries.product(full, parts, shift, outs, self.name, settings)
        y = y[: matrix.shape[0]]
        return y if outs == wanted else y[:, :wanted].contiguous()

    def _operands(self, matrix: Tensor, bias: Tensor | None, problem: Problem) -> tuple[Tensor, Tensor | None, int]:
        """matrix: (rows, depth) -> (matrix, bias, outs) in the sizes that the library takes."""
        sizes = self._sizes(problem)
        _, outs, depth = _padded(problem, sizes)
        rows, wanted = matrix.shape[0], problem.weight[0] // problem.groups
        full = _fill(matrix, depth, rows + -rows % sizes.rows if rows else sizes.rows)
        return full, bias if bias is None or outs == wanted else F.pad(bias, (0, outs - wanted)), outs

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """The default algorithm, and what the library's search, if it has one, finds for the (first) product."""
        shift = None if bias is None else bias[: problem.weight[0] // problem.groups]
        if problem.kind == "linear":
            rows = x.reshape(-1, x.shape[-1])
        else:
            channels = _padded(problem, self._sizes(problem))[0]
            rows = input_matrix(x[:, : problem.weight[1]], channels, problem)
        full, shift, _ = self._operands(rows, shift, problem)
        fastest = libraries.fastest(self.name, full, [part[0] for part in packed.values()], shift)
        return list(dict.fromkeys([(), tuple(zip(libraries.SETTINGS, fastest, strict=False))]))


def _padded(problem: Problem, sizes: Sizes) -> tuple[int, int, int]:
    """(channels of a kernel position, outs, depth) with padding, of one group."""
    taps = math.prod(problem.weight[2:])
    step = 4
    while step * taps % sizes.depth:  # not by math.gcd, which torch.compile takes of constants only
        step += 4
    channels = -(-problem.weight[1] // step) * step
    outs = -(-(problem.weight[0] // problem.groups) // sizes.outs) * sizes.outs
    return channels, outs, channels * taps


def _fill(matrix: Tensor, columns: int, rows: int) -> Tensor:
    """`matrix` with zeros to its right and below it, contiguous."""
    extra = (0, columns - matrix.shape[1], 0, rows - matrix.shape[0])
    if not any(extra):
        return matrix.contiguous()
    return F.pad(matrix, extra).contiguous()


def _shape_refusal(problem: Problem, sizes: Sizes) -> Refusal | None:
    if problem.depthwise:
        return DEPTHWISE
    if problem.groups > _MOST_GROUPS:
        return Refusal(f"{problem.groups} groups: a product for each would be too small", Kind.SHAPE)
    _, outs, depth = _padded(problem, sizes)
    real = (problem.weight[0] // problem.groups, math.prod(problem.weight[1:]))
    if outs * depth > 2 * real[0] * real[1]:
        return Refusal(f"too small: {real[0]} x {real[1]} would be padded to {outs} x {depth}", Kind.SHAPE)
    return None


def _where(full: Tensor, problem: Problem) -> str:
    wrong = int((_in_fours(full) > 2).nonzero()[0])
    row, column = divmod(4 * wrong, full.shape[1])
    return f"(output {row}, columns {column} to {column + 3} of its {full.shape[1]})"
