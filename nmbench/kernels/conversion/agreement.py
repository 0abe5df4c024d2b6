"""A converted model held whole against the dense one, on the example inputs."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from nmbench.kernels.conversion.watch import Arguments

#: |difference| / |result| by the itemsize of the result
_AGREE = {2: 3e-2, 4: 1e-4, 8: 1e-8}
_MORE = 30.0  # times what a change of the inputs by half a rounding does to the result


@dataclass(frozen=True)
class Agreement:
    """off: the difference over what is allowed, None where there is none. wrong: what it is if it is too much, or "".

    untold: why nothing can be said. words: what a report says of it.
    """

    off: float | None
    wrong: str = ""
    untold: str = "the dense one's changes as much by roundings"

    @property
    def words(self) -> str:
        """One line."""
        if self.off is not None and self.off <= 1.0:
            return "as a whole its result is that of the dense model, within what roundings do"
        return self.wrong or f"its result could not be compared as a whole: {self.untold}"


def agreement(right: Any, got: Any, shaken: Callable[[], Any]) -> Agreement:
    """Do two models agree?

    right, got: what they return. shaken: what the dense one returns for inputs that are off by roundings: a choice (of
    boxes, of words) or a drawing of numbers in it makes results incomparable, and shows there as well.
    """
    if not _tensors(right) and not _tensors(got):
        return Agreement(None, untold="there is no tensor in it")
    off = difference(right, got)
    if off is not None and off <= 1.0:
        return Agreement(off)
    usual = difference(right, shaken())
    if usual is None or (off is not None and off <= _MORE * usual):
        return Agreement(off)
    if off is None:
        return Agreement(off, "the converted model's result has another form than the dense one's")
    return Agreement(off, f"the converted model's result is off by {off:.1f} times what is allowed")


def shake(given: Arguments) -> Arguments:
    """Inputs with every real number off by half a rounding, at most."""

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        draw = torch.Generator(leaf.device).manual_seed(0)
        noise = torch.rand(leaf.shape, device=leaf.device, generator=draw) - 0.5
        return (leaf.double() * (1 + torch.finfo(leaf.dtype).eps * noise.double())).to(leaf.dtype)

    return replace(given, args=pytree.tree_map(moved, given.args), kwargs=pytree.tree_map(moved, given.kwargs))


def difference(right: Any, got: Any) -> float | None:
    """The largest relative difference over what is allowed; None if the two have different forms, or no tensor."""
    before, after = _tensors(right), _tensors(got)
    if len(before) != len(after) or any(
        a.shape != b.shape or a.dtype != b.dtype for a, b in zip(before, after, strict=True)
    ):
        return None
    return max((_one(a, b) for a, b in zip(before, after, strict=True)), default=None)


def _one(right: Tensor, got: Tensor) -> float:
    if not right.dtype.is_floating_point:
        return 0.0 if torch.equal(right, got) else float("inf")
    if not torch.equal(right.isfinite(), got.isfinite()):
        return float("inf")
    wanted, found = (one.double().nan_to_num(0.0, 0.0, 0.0) for one in (right, got))
    off = float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))
    return off / _AGREE.get(right.dtype.itemsize, 1.0)


def _tensors(result: Any) -> list[Tensor]:
    leaves = pytree.tree_leaves(_plain(result))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_nested]


def _plain(result: Any) -> Any:
    """A result of a class of its own (of mmdet, of transformers) by its attributes or items."""
    if isinstance(result, list | tuple):
        return [_plain(one) for one in result]
    if is_dataclass(result) and not isinstance(result, type):
        return {field.name: _plain(getattr(result, field.name)) for field in fields(result)}
    if hasattr(result, "items") and callable(result.items):
        return {str(key): _plain(value) for key, value in result.items()}
    return result
