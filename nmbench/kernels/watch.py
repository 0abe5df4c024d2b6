"""What really happens to a model's layers in one forward pass: with which inputs each is called, and who else reads it.

watching   a context in which layers are watched, without hooks (which would switch torch's fused paths off)
Seen       what was seen of one layer
Call       one way in which it was called
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Call", "Seen", "watching"]

_SLOT = "_nm_seen"


@dataclass(frozen=True)
class Call:
    """Shape, dtype and memory format of an input. autocast: the layer casts it, and its weight, itself."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool = False
    autocast: bool = False


@dataclass
class Seen:
    """calls: how often each came. by_name: how often its weight was read from outside its own forward pass."""

    calls: Counter[Call] = field(default_factory=Counter)
    by_name: int = 0
    inside: int = 0


@contextmanager
def watching(layers: Iterable[nn.Module]) -> Iterator[dict[int, Seen]]:
    """id of a layer -> what is seen of it while the context lasts. Each layer has its own class again afterwards."""
    watched = {id(layer): layer for layer in layers}
    seen = {key: Seen() for key in watched}
    classes = {key: type(layer) for key, layer in watched.items()}
    try:
        made = {cls: _watched(cls) for cls in set(classes.values())}
        for key, layer in watched.items():
            layer.__dict__[_SLOT] = seen[key]
            layer.__class__ = made[classes[key]]
        yield seen
    finally:
        for key, layer in watched.items():
            layer.__class__ = classes[key]
            layer.__dict__.pop(_SLOT, None)


def _watched(cls: type[nn.Module]) -> type[nn.Module]:
    """A subclass that tells."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen: Seen = self.__dict__[_SLOT]
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, Tensor):
            seen.calls[_call(x)] += 1
        seen.inside += 1
        try:
            return cls.forward(self, *args, **kwargs)
        finally:
            seen.inside -= 1

    def weight(self: Any) -> Any:
        seen: Seen = self.__dict__[_SLOT]
        seen.by_name += not seen.inside
        return self._parameters["weight"]

    members = {"forward": forward, "weight": property(weight), "__module__": cls.__module__}
    return type(cls.__name__, (cls,), members)


def _call(x: Tensor) -> Call:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return Call(tuple(x.shape), x.dtype, last, torch.is_autocast_enabled(x.device.type))
