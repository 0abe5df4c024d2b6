"""What a backend of the dispatcher is: it says whether it can run a problem, packs a weight for it, and runs it.

Problem        one layer at one shape of input
Backend        one way to multiply with an N:M weight: subclass this
refused        its refusal, also where asking fails
result_dtype   dtype of a product by the dtype of its operands
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nmbench._util.errors import first_line
from nmbench.sparsity import NMPattern

__all__ = ["Backend", "Problem", "Settings", "refused", "result_dtype"]

#: what a backend was tuned to, for instance (("alg_id", 3),); plain numbers, so that they can be kept in a file
Settings = tuple[tuple[str, int], ...]


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """int32 for int8, bfloat16 for the 8-bit floats (which have no range for sums), else `dtype` itself."""
    if dtype == torch.int8:
        return torch.int32
    return torch.bfloat16 if dtype.is_floating_point and dtype.itemsize == 1 else dtype


@dataclass(frozen=True)
class Problem:
    """One layer at one shape of input.

    Attributes:
        kind: "linear" (weight (out, in), input (..., in)) or "conv2d" (weight OIHW, input NCHW).
        weight: shape of the weight. rows: rows of the matrix product: all leading dimensions of a linear layer's input,
            batch x output height x output width of a convolution.
        input: shape of the input. A converted layer may be called with other leading sizes: read those off the input.
        pattern: what the weight keeps to; its axis is "input".
        dtype, device: of weight and input; device is a type, "cuda" or "cpu".
        capability: CUDA compute capability, (0, 0) on a CPU.
        stride, padding, dilation, groups: of a convolution, as in torch.nn.functional.conv2d.
        settings: one of `Backend.variants`, or () for the backend's default.
    """

    kind: Literal["linear", "conv2d"]
    weight: tuple[int, ...]
    input: tuple[int, ...]
    rows: int
    pattern: NMPattern
    dtype: torch.dtype
    device: str
    capability: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    settings: Settings = ()


class Backend(ABC):
    """One way to multiply with an N:M weight; `name` is what a report calls it."""

    name: ClassVar[str] = ""

    @abstractmethod
    def refusal(self, problem: Problem) -> str | None:
        """None if this backend can run `problem`, else the reason in a few words. Cheap; never raises."""

    @abstractmethod
    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """The weight in the form that this backend reads; the tensors become buffers of the converted layer.

        weight: baked (pruned entries are zero), of shape `problem.weight`.
        Raises ValueError if the weight breaks what the backend needs.
        """

    @abstractmethod
    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (..., in) -> (..., out)."""

    @abstractmethod
    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W'). `refusal` says so where a backend has no convolution."""

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """Settings worth timing for this problem, the default first. `problem.settings` then is one of them."""
        return [()]

    def unpack(self, packed: Mapping[str, Tensor], problem: Problem) -> Tensor:
        """The weight that was packed, of shape `problem.weight`: by default, the product with unit vectors."""
        device = next(iter(packed.values())).device
        problem = replace(problem, settings=())  # those were found for another number of rows
        if problem.kind == "linear":
            eye = torch.eye(problem.weight[1], device=device).to(problem.dtype)
            return self.linear(eye, packed, None, problem).t().contiguous().to(problem.dtype)
        _, depth, kh, kw = problem.weight
        # image (i, r, s) is one at pixel (r, s) of channel i of every group, so that it meets one weight of each filter
        unit = torch.eye(depth * kh * kw, device=device).to(problem.dtype).view(-1, depth, kh, kw)
        plain = replace(problem, stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        found = self.conv2d(unit.repeat(1, problem.groups, 1, 1), packed, None, plain)
        return found.flatten(1).t().reshape(problem.weight).contiguous().to(problem.dtype)


def refused(backend: Backend, problem: Problem) -> str | None:
    """`backend.refusal(problem)`; a backend of anyone's may raise anything there, which is a refusal too."""
    try:
        return backend.refusal(problem)
    except Exception as error:
        return f"its refusal() raised {first_line(error)}"
