"""Sets of channels that move together, and the tensors that move with them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


class Space:
    """Channels in one order wherever they occur: a coupling set. Joined ones have one `root`.

    size: number of channels. blocks: equal parts that a channel stays within. fixed: why the order must stay.
    """

    def __init__(self, size: int, fixed: str = "") -> None:
        self.size, self.fixed, self.blocks = size, fixed, 1
        self.order: Tensor | None = None
        self._parent: Space | None = None

    @property
    def root(self) -> Space:
        """The one that stands for all that were joined."""
        space = self
        while space._parent is not None:
            space = space._parent
        return space

    def fix(self, why: str) -> None:
        """Their order must stay; the first reason is kept."""
        self.root.fixed = self.root.fixed or why

    def divide(self, blocks: int) -> None:
        """Channels must stay within each of `blocks` equal parts."""
        self.root.blocks = math.lcm(self.root.blocks, blocks)
        if self.size % self.root.blocks:
            self.fix("groups of different sizes meet in it")

    def join(self, other: Space) -> None:
        """Both are one from now on; they have the same size."""
        mine, theirs = self.root, other.root
        if mine is not theirs:
            theirs._parent = mine
            mine.fixed = mine.fixed or theirs.fixed
            mine.divide(theirs.blocks)


@dataclass(frozen=True)
class Part:
    """A space along a dimension; `inner` consecutive positions belong to each channel (a flattened image)."""

    space: Space
    inner: int = 1

    @property
    def size(self) -> int:
        """Positions."""
        return self.space.size * self.inner

    def order(self) -> Tensor:
        """New position -> old position."""
        root = self.space.root
        order = torch.arange(root.size) if root.order is None else root.order
        return (order[:, None] * self.inner + torch.arange(self.inner)).flatten()


@dataclass(frozen=True)
class Channels:
    """Of a value in the graph: the dimension that channels lie along, and the spaces that follow each other there."""

    dim: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Of the dimension."""
        return sum(part.size for part in self.parts)

    def fix(self, why: str) -> None:
        """The order of all of them must stay."""
        for part in self.parts:
            part.space.fix(why)

    @property
    def one(self) -> Space | None:
        """The space, where it is a single one and each channel one position."""
        return self.parts[0].space if len(self.parts) == 1 and self.parts[0].inner == 1 else None


def couple(first: Channels, second: Channels, why: str) -> None:
    """Their channels must have the same order; where that cannot be told, both stay, because of `why`."""
    same = [(a.space.size, a.inner) for a in first.parts] == [(b.space.size, b.inner) for b in second.parts]
    if not same:
        first.fix(why)
        second.fix(why)
        return
    for a, b in zip(first.parts, second.parts, strict=True):
        a.space.join(b.space)


@dataclass(frozen=True)
class Touch:
    """A tensor of a module along whose dimension `dim` channels lie.

    read: it is a weight that sums over them. groups: of a grouped convolution, whose rows see a part of the channels.
    """

    module: nn.Module
    key: str
    dim: int
    channels: Channels
    read: bool = False
    groups: int = 1

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer, below whatever stands for it while the model is attached."""
        found = self.module._parameters.get(self.key)
        return self.module._buffers[self.key] if found is None else found  # type: ignore[return-value]

    @torch.no_grad()
    def apply(self) -> None:
        """Reorder it in place."""
        tensor = self.tensor
        if self.groups == 1:
            order = torch.cat([s + p.order() for s, p in zip(_starts(self.channels), self.channels.parts, strict=True)])
            tensor.copy_(tensor.index_select(self.dim, order.to(tensor.device)))
            return
        orders = self.channels.parts[0].order().view(self.groups, -1)
        for i, rows in enumerate(tensor.chunk(self.groups)):
            local = orders[i] - i * orders.shape[1]
            rows.copy_(rows.index_select(1, local.to(tensor.device)))

    def scores(self, space: Space, m: int) -> Iterable[tuple[int, Tensor]]:
        """(block, rows x columns) |weight| for the columns of `space`, as far as they begin with a group of `m`.

        block: which of its `groups` blocks the columns are; -1: all of them.
        """
        size = self.tensor.detach().abs().float()
        if self.groups > 1:
            yield from ((i, rows.movedim(1, -1).flatten(0, -2)) for i, rows in enumerate(size.chunk(self.groups)))
            return
        matrix = size.movedim(self.dim, -1).flatten(0, -2)
        for start, part in zip(_starts(self.channels), self.channels.parts, strict=True):
            if part.space.root is space and part.inner == 1 and start % m == 0:
                yield -1, matrix[:, start : start + part.size]


def _starts(channels: Channels) -> list[int]:
    starts = [0]
    for part in channels.parts[:-1]:
        starts.append(starts[-1] + part.size)
    return starts


@dataclass
class Couplings:
    """All that a graph says of the channels: every tensor that moves with some."""

    touches: list[Touch] = field(default_factory=list)

    def add(self, touch: Touch) -> None:
        """A tensor that was touched along the same dimension before (a shared layer, tied weights) couples both."""
        if touch.module._parameters.get(touch.key) is None and touch.module._buffers.get(touch.key) is None:
            return
        for other in self.touches:
            if other.tensor is touch.tensor and other.dim == touch.dim:
                couple(other.channels, touch.channels, f"{touch.key} is shared by layers of different channels")
                if other.groups != touch.groups:
                    touch.channels.fix("its weight is shared by convolutions of different groups")
                return
        self.touches.append(touch)

    def spaces(self) -> list[Space]:
        """Each coupling set once, in the order of the graph."""
        return list(dict.fromkeys(p.space.root for touch in self.touches for p in touch.channels.parts))
