"""What a backend of the dispatcher is: it says whether it can run a problem, packs a weight for it, and runs it.

Problem    one layer at one shape of input
Backend    one way to multiply with an N:M weight: subclass this
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nmbench.sparsity import NMPattern

__all__ = ["Backend", "Problem"]


@dataclass(frozen=True)
class Problem:
    """One layer at one shape of input.

    Attributes:
        kind: "linear" (weight (out, in), input (..., in)) or "conv2d" (weight OIHW, input NCHW).
        weight: shape of the weight. rows: rows of the matrix product: all leading dimensions of a linear layer's input,
            batch x output height x output width of a convolution.
        input: shape of the input.
        pattern: what the weight keeps to; its axis is "input".
        dtype, device: of weight and input; device is a type, "cuda" or "cpu".
        capability: CUDA compute capability, (0, 0) on a CPU.
        stride, padding, dilation, groups: of a convolution, as in torch.nn.functional.conv2d.
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
