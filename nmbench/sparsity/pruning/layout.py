"""A layer as matrix products: its weight as matrices (rows, columns), its inputs as the rows that they multiply.

A convolution is unfolded: its columns are ordered by kernel position and then by channel, so that the N:M groups along
the input channels are consecutive; on the kernel axis they lie as in the weight. Each group of a grouped convolution is
a matrix of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.pruning.columns import Columns
from nmbench.sparsity.select import LayerInfo

_AT_ONCE = 2**24  # numbers of an unfolded input


@dataclass(frozen=True)
class Layout:
    """How a weight of `weight` shape is read as `parts` matrices: cut into `shape`, its dimensions put in `order`."""

    weight: tuple[int, ...]
    shape: tuple[int, ...]
    order: tuple[int, ...]
    columns: Columns

    @property
    def parts(self) -> int:
        """How many matrices: the groups of a convolution, else 1."""
        return self.shape[0]

    def read(self, weight: Tensor) -> Tensor:
        """(parts, rows, columns)."""
        ordered = weight.reshape(self.shape).permute(self.order)
        return ordered.reshape(*ordered.shape[:2], -1)

    def write(self, matrices: Tensor) -> Tensor:
        """The weight that `read` reads as `matrices`."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return matrices.reshape([self.shape[i] for i in self.order]).permute(back).reshape(self.weight)


def layout(info: LayerInfo, module: nn.Module, pattern: NMPattern) -> Layout | str:
    """Of the weight that `info` tells of, which `module` holds; or why it cannot be read as matrices."""
    shape, dim = info.shape, info.grouping.dim
    if len(shape) > 2 and not hasattr(module, "kernel_size"):
        return "no linear layer or convolution reads it"
    parts = int(getattr(module, "groups", 1))
    cut = (parts, shape[0] // parts, *shape[1:])
    rows, inputs = (2, 1) if dim == 0 else (1, 2)
    kernel = tuple(range(3, len(cut)))
    if pattern.axis == "input":
        return Layout(shape, cut, (0, rows, *kernel, inputs), Columns(pattern, cut[inputs]))
    size = math.prod(cut[i] for i in (inputs, *kernel))
    if dim == 0 or size % pattern.m:
        return f"its groups of {pattern} run over the ends of its rows"
    return Layout(shape, cut, (0, rows, inputs, *kernel), Columns(pattern, size))


@dataclass(frozen=True)
class Convolution:
    """The arguments of aten.convolution that say what it sums over."""

    kernel: tuple[int, ...]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    output_padding: Sequence[int]
    groups: int

    @classmethod
    def called(cls, arguments: Sequence[Any]) -> Convolution:
        """By the arguments of the operation: input, weight, bias, stride, padding, dilation, ..."""
        kernel = tuple(arguments[1].shape[2:])

        def each(value: Sequence[int]) -> list[int]:
            return [*value] * (len(kernel) if len(value) == 1 else 1)

        stride, padding, dilation, transposed, more, groups = arguments[3:9]
        return cls(kernel, each(stride), each(padding), each(dilation), bool(transposed), each(more), int(groups))

    def rows(self, x: Tensor, channels_last: bool) -> Iterator[Tensor]:
        """x: (batch, channels, extent...) -> (groups, positions, columns), some examples at a time."""
        x, stride = self._padded(x)
        numbers = math.prod(self.kernel) * x[0].numel() // max(1, math.prod(stride))
        for part in torch.split(x, max(1, _AT_ONCE // max(1, numbers))):
            yield self._unfolded(part, stride, channels_last)

    def _padded(self, x: Tensor) -> tuple[Tensor, Sequence[int]]:
        """Input and stride of the plain convolution that this is; for a transposed one zeros lie between inputs."""
        if not self.transposed:
            return F.pad(x, [p for p in reversed(self.padding) for _ in range(2)]), self.stride
        extent = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], self.stride, strict=True)]
        spread = x.new_zeros((*x.shape[:2], *extent))
        spread[(slice(None), slice(None), *(slice(None, None, s) for s in self.stride))] = x
        around = [d * (k - 1) - p for d, k, p in zip(self.dilation, self.kernel, self.padding, strict=True)]
        ends = [a + o for a, o in zip(around, self.output_padding, strict=True)]
        sides = [value for a, b in zip(reversed(around), reversed(ends), strict=True) for value in (a, b)]
        return F.pad(spread, sides), [1] * len(self.kernel)

    def _unfolded(self, x: Tensor, stride: Sequence[int], channels_last: bool) -> Tensor:
        count = len(self.kernel)
        for i, (k, s, d) in enumerate(zip(self.kernel, stride, self.dilation, strict=True)):
            x = x.unfold(2 + i, d * (k - 1) + 1, s)[..., ::d]
        if self.transposed:
            x = x.flip(*range(2 + count, 2 + 2 * count))
        x = x.reshape(len(x), self.groups, -1, *x.shape[2:])  # batch, group, channel, positions..., kernel...
        positions, kernel = range(3, 3 + count), range(3 + count, 3 + 2 * count)
        x = x.permute(1, 0, *positions, *((*kernel, 2) if channels_last else (2, *kernel)))
        return x.reshape(self.groups, math.prod(x.shape[1 : 2 + count]), -1)


def computed(weight: Tensor) -> Tensor:
    """A copy in the type that pruners compute in."""
    return weight.detach().to(torch.float64 if weight.dtype == torch.float64 else torch.float32, copy=True)
