"""What happens to a model's layers in one forward pass: with which inputs each is called, and who else reads it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

#: of a call: what identifies each argument, tensors by shape and dtype, and which of them are one and the same
Form = tuple[object, ...]

_SLOT = "_nm_seen"


@dataclass(frozen=True)
class Call:
    """Shape, dtype and memory format of an input. autocast: the layer casts its weight itself.

    Under autocast to the weight's own dtype the input alone is cast: then `dtype` is that, and `autocast` False.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool = False
    autocast: bool = False

    @classmethod
    def of(cls, x: Tensor, weight: torch.dtype, cast: torch.dtype | None) -> Call:
        """Of a layer whose weight has that dtype with x. cast: to what operators cast there, see `autocast_dtype`."""
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        if x.dtype.is_floating_point and cast == weight:
            return cls(tuple(x.shape), weight, last)
        return cls(tuple(x.shape), x.dtype, last, cast is not None)


def autocast_dtype(kind: str) -> torch.dtype | None:
    """To which dtype operators cast on that type of device now, if they do."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@dataclass
class Seen:
    """calls: how often each came. by_name: how often its weight was read from outside its own forward pass."""

    calls: Counter[Call] = field(default_factory=Counter)
    by_name: int = 0
    inside: int = 0


@dataclass(frozen=True)
class Arguments:
    """Of one call. kind: the type of device of its tensors. autocast: the dtype, where it was made under autocast."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kind: str = "cpu"
    autocast: torch.dtype | None = None

    def give(self, module: Callable[..., Any]) -> Any:
        """What `module` returns for them, under the autocast of the call, whatever it is now."""
        if autocast_dtype(self.kind) == self.autocast:
            return module(*self.args, **self.kwargs)
        with torch.autocast(self.kind, self.autocast, enabled=self.autocast is not None):
            return module(*self.args, **self.kwargs)

    def own(self) -> Arguments:
        """The same with tensors of their own, for a module that may write to them."""
        made: dict[int, Tensor] = {}  # what was one and the same tensor still is

        def cloned(leaf: Any) -> Any:
            return made.setdefault(id(leaf), leaf.clone()) if isinstance(leaf, Tensor) else leaf

        return replace(self, args=pytree.tree_map(cloned, self.args), kwargs=pytree.tree_map(cloned, self.kwargs))

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Those of a call that is being made."""
        kinds = (leaf.device.type for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        kind = next(kinds, "cpu")
        return cls(args, kwargs, kind, autocast_dtype(kind))


@dataclass
class Whole:
    """calls: how often each form of call came. examples: arguments for each; modules of one class share them."""

    calls: Counter[Form] = field(default_factory=Counter)
    examples: dict[Form, Arguments] = field(default_factory=dict)


@dataclass
class Watched:
    """By the id of a module: of the layers, and of those that are watched as a whole."""

    layers: dict[int, Seen]
    wholes: dict[int, Whole]


@contextmanager
def watching(layers: Iterable[nn.Module], wholes: Iterable[nn.Module] = ()) -> Iterator[Watched]:
    """What is seen of them while the context lasts. Each module has its own class again afterwards."""
    watched = {id(layer): layer for layer in layers}
    seen = Watched({key: Seen() for key in watched}, {})
    examples: dict[type, dict[Form, Arguments]] = defaultdict(dict)
    for module in wholes:
        if id(module) not in seen.layers:
            seen.wholes[id(module)] = Whole(examples=examples[type(module)])
            watched[id(module)] = module
    classes = {key: type(module) for key, module in watched.items()}
    try:
        for key, module in watched.items():
            module.__dict__[_SLOT] = seen.wholes.get(key) or seen.layers[key]
            module.__class__ = (_watched_whole if key in seen.wholes else _watched)(classes[key])
        yield seen
    finally:
        for key, module in watched.items():
            module.__class__ = classes[key]
            module.__dict__.pop(_SLOT, None)


def _watched_whole(cls: type[nn.Module]) -> type[nn.Module]:
    """A subclass that counts its calls by their form."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        whole: Whole = self.__dict__[_SLOT]
        about = _form(args, kwargs)
        whole.calls[about] += 1
        if about not in whole.examples:
            whole.examples[about] = Arguments.of(args, kwargs)
        return cls.forward(self, *args, **kwargs)

    return type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})


def _form(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Form:
    leaves, structure = pytree.tree_flatten((args, kwargs))
    first: dict[int, int] = {}
    form: list[object] = [str(structure)]
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            shape = "nested" if leaf.is_nested else tuple(leaf.shape)
            cast = str(autocast_dtype(leaf.device.type))
            form.append((first.setdefault(id(leaf), number), shape, str(leaf.dtype), cast))
        else:
            form.append(leaf if isinstance(leaf, int | float | str | None) else type(leaf).__name__)
    return tuple(form)


def _watched(cls: type[nn.Module]) -> type[nn.Module]:
    """A subclass that counts its calls, and who reads its weight."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen: Seen = self.__dict__[_SLOT]
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, Tensor):
            seen.calls[Call.of(x, self._parameters["weight"].dtype, autocast_dtype(x.device.type))] += 1
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
