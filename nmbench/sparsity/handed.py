"""The weight of a method that changes the layer's product: a tensor that knows, when a product takes it, whose it is.

Whoever multiplies with it is then served, the layer itself, attention, which reads its weights from outside, or a
model's own code; nothing else in the model is touched.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nmbench.sparsity.gradients import Product

if TYPE_CHECKING:
    from nmbench.sparsity.weight import SparseWeight

_CONVOLUTIONS = {
    **{getattr(place, f"conv{d}d"): (d, False) for d in (1, 2, 3) for place in (F, torch)},
    **{getattr(place, f"conv_transpose{d}d"): (d, True) for d in (1, 2, 3) for place in (F, torch)},
}


class _Handed(Tensor):
    """A weight on its way to a product."""

    owner: SparseWeight

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return _attention()(*args, **kwargs)
        if (call := _product(func, args, kwargs)) is not None:
            return _multiplied(*call)
        mine = next(one for one in _flat([*args, *kwargs.values()]) if isinstance(one, _Handed))
        with torch._C.DisableTorchFunctionSubclass():
            plain = [_plain(one) for one in args], {key: _plain(one) for key, one in kwargs.items()}
            made = func(*plain[0], **plain[1])
        if isinstance(made, Tensor) and made.requires_grad:
            if made.shape != mine.shape:
                raise _refused(mine.owner, getattr(func, "__name__", str(func)))
            return hand_out(made, mine.owner)
        return made


def _flat(values: Any) -> Any:
    for one in values:
        yield from _flat(one) if isinstance(one, list | tuple) else [one]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_plain(one) for one in value)
    return value.as_subclass(Tensor) if isinstance(value, _Handed) else value


def _refused(owner: SparseWeight, operation: str) -> RuntimeError:
    assert owner.method is not None
    return RuntimeError(
        f"{owner.name}: {owner.method.name} changes how the layer multiplies, and here its weight goes through "
        f"{operation}(), not straight into a linear layer or convolution: leave it out by layers=..."
    )


def hand_out(weight: Tensor, owner: SparseWeight) -> Tensor:
    """`weight`, of the shape of `owner`'s parameter, for whoever multiplies with it."""
    _keep_out_of_graphs()
    made = weight.as_subclass(_Handed)
    made.owner = owner
    return made


@functools.cache
def _keep_out_of_graphs() -> None:
    """torch.compile breaks its graph where such a tensor comes in, and does not trace what it does."""
    config = getattr(torch._dynamo, "config", None)
    known: set[type[Any]] = getattr(config, "nontraceable_tensor_subclasses", set())
    known.add(_Handed)


def _multiplied(inputs: Tensor, weight: _Handed, product: Product) -> Tensor:
    owner = weight.owner
    assert owner.method is not None
    made: Tensor = owner.method.product(owner, _plain(inputs), _plain(weight), product)
    return made


def _product(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, _Handed, Product] | None:
    """(inputs, weight, the layer's operation) of a call that multiplies with a handed weight."""
    if func is F.linear or func is torch.addmm:
        names = ("input", "weight", "bias") if func is F.linear else ("input", "mat1", "mat2")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if func is torch.addmm:
            given = {"input": given["mat1"], "weight": given["mat2"], "bias": given["input"]}
        product = Product(bias=given.get("bias"), turned=func is torch.addmm)
    elif func in _CONVOLUTIONS:
        spatial, transposed = _CONVOLUTIONS[func]
        last = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
        given = {**dict(zip(("input", "weight", "bias", "stride", "padding", *last), args, strict=False)), **kwargs}
        given["input"], product = _convolution(given, spatial, transposed)
    else:
        return None
    weight = given["weight"]
    return (given["input"], weight, product) if isinstance(weight, _Handed) else None


def _convolution(given: dict[str, Any], spatial: int, transposed: bool) -> tuple[Tensor, Product]:
    def each(name: str, default: int) -> tuple[int, ...]:
        value = given.get(name, default)
        return (value,) * spatial if isinstance(value, int) else tuple(value) * (spatial if len(value) == 1 else 1)

    inputs, dilation, padding = given["input"], each("dilation", 1), given.get("padding", 0)
    if isinstance(padding, str):
        wide = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, given["weight"].shape[2:], strict=True)
        ]
        inputs = F.pad(inputs, [side for w in reversed(wide) for side in (w // 2, w - w // 2)])
        given = {**given, "padding": 0}
    at = (each("stride", 1), each("padding", 0), dilation, each("output_padding", 0), given.get("groups", 1))
    return inputs, Product(given.get("bias"), spatial, False, transposed, *at)


# -- attention, whose function calls linear() on rows of its weight ----------------------------------------------
def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    base = weight if isinstance(weight, _Handed) else None
    if isinstance(weight, _Rows):
        base, first, count = weight.held, weight.first, weight.count
        whole = None if bias is None else F.pad(bias, (first, base.shape[0] - first - count))
        return _multiplied(inputs, base, Product(bias=whole))[..., first : first + count].contiguous()
    if base is None:
        return F.linear(inputs, weight, bias)
    return _multiplied(inputs, base, Product(bias=bias)).contiguous()  # attention takes views of it


class _Rows:
    """Some rows of a handed weight. The product is made with all of them, and those columns are taken."""

    def __init__(self, held: _Handed, first: int, count: int) -> None:
        self.held, self.first, self.count = held, first, count


def _packed(q: Tensor, k: Tensor, v: Tensor, w: Tensor, b: Tensor | None = None) -> list[Tensor]:
    """The projections of attention from one weight, (3 embed, embed)."""
    if k is v and q is k:
        made = _linear(q, w, b)
        return [part.contiguous() for part in made.chunk(3, dim=-1)]
    parts: list[Tensor] = []
    for i, one in enumerate((q, k, v)):
        size = w.shape[0] // 3
        bias = None if b is None else b[i * size : (i + 1) * size]
        rows: Any = _Rows(w, i * size, size) if isinstance(w, _Handed) else w[i * size : (i + 1) * size]
        parts.append(_linear(one, rows, bias))
    return parts


@functools.cache
def _attention() -> Callable[..., Any]:
    """torch's function of attention, with these projections in place of its own."""
    own = F.multi_head_attention_forward
    names = {
        **vars(F),
        "linear": _linear,
        "_in_projection_packed": _packed,
        "has_torch_function": lambda tensors: False,
    }
    apart: Any = vars(F)["_in_projection"]
    names["_in_projection"] = types.FunctionType(apart.__code__, names, None, apart.__defaults__)
    made = types.FunctionType(own.__code__, names, own.__name__, own.__defaults__)
    made.__kwdefaults__ = own.__kwdefaults__
    return made
