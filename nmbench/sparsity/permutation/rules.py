"""What functions and methods of tensors do to channels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from nmbench.sparsity.permutation.spaces import Channels, Part, Space, couple

if TYPE_CHECKING:
    from nmbench.sparsity.permutation.graph import Operation


@dataclass(frozen=True)
class Unknown:
    """A tensor of which no channels are known, and why; target: the parameter that it is, if it is one."""

    why: str
    target: str = ""


Value = Any  # Channels | Unknown | tuple of them | None, for what is no tensor

_POINTWISE = {
    "relu", "relu_", "relu6", "gelu", "silu", "mish", "elu", "leaky_relu", "sigmoid", "sigmoid_", "tanh", "tanh_",
    "hardswish", "hardsigmoid", "hardtanh", "softplus", "dropout", "dropout2d", "alpha_dropout", "stochastic_depth",
    "abs", "neg", "exp", "sqrt", "rsqrt", "square", "pow", "clamp", "contiguous", "clone", "float", "half", "to",
    "type", "type_as", "detach", "nan_to_num",
}  # fmt: skip
_BINARY = {"add", "add_", "iadd", "sub", "sub_", "mul", "mul_", "imul", "truediv", "div", "maximum", "minimum"}
_IMAGE = {
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate", "max_pool1d",
    "avg_pool1d", "adaptive_avg_pool1d", "max_pool3d", "avg_pool3d", "adaptive_avg_pool3d",
}  # fmt: skip
_RESHAPES = {"flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze"}
_SIZES = {"size", "dim", "getattr", "numel", "eq", "_assert"}


def name(node: fx.Node) -> str:
    """Of what the node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def rule(node: fx.Node) -> Callable[[Operation], Value] | None:
    """What the node does to channels, if that is known."""
    called = name(node).strip("_") if name(node).startswith("__") else name(node)
    sets = ((_POINTWISE, _pointwise), (_BINARY, _binary), (_IMAGE, _image), (_RESHAPES, _reshaped), (_SIZES, _size))
    for names, found in sets:
        if called in names:
            return found
    return _SINGLE.get(called)


def _pointwise(op: Operation) -> Value:
    return op.first if not isinstance(op.first, tuple) else NotImplemented


def _size(op: Operation) -> Value:
    return NotImplemented if isinstance(op.out, Tensor) else None


def _image(op: Operation) -> Value:
    return NotImplemented if isinstance(op.first, Channels) and op.first.dim != 1 else op.first


def _aligned(op: Operation, argument: Any) -> Value:
    """Its channels by the dimensions of the result."""
    value, number = op.value(argument), op.number(argument)
    if isinstance(value, Channels):
        return Channels(value.dim + op.out.ndim - number.ndim, value.parts)
    return value


def _binary(op: Operation) -> Value:
    """Channels of both are the same ones; what has one number for all of them does not count."""
    if not isinstance(op.out, Tensor):
        return None
    tensors = [a for a in op.node.args if isinstance(op.number(a), Tensor)]
    known = [(a, _aligned(op, a)) for a in tensors]
    with_channels = [value for _, value in known if isinstance(value, Channels)]
    if not with_channels:
        return known[0][1] if len(known) == 1 else Unknown(f"{name(op.node)} makes its input")
    kept = with_channels[0]
    for argument, value in known:
        number = op.number(argument)
        dim = kept.dim - (op.out.ndim - number.ndim)
        if isinstance(value, Channels):
            if value.dim != kept.dim or value.size != kept.size:
                return NotImplemented
            couple(kept, value, f"{name(op.node)} joins channels that lie otherwise")
        elif dim >= 0 and number.shape[dim] != 1 and not op.walk.loose(value, kept, op.out.ndim):
            kept.fix(value.why if isinstance(value, Unknown) else f"{name(op.node)} joins it with something else")
    return kept if kept.size == op.out.shape[kept.dim] else NotImplemented


def _reshaped(op: Operation) -> Value:
    """Channels go on where what lies before them stays; what lies behind may become part of each channel."""
    value = op.first
    if not isinstance(value, Channels):
        return value
    before, after = op.shape, op.out.shape
    ahead = before[: value.dim].numel()
    for dim in range(len(after)):
        if after[:dim].numel() != ahead or after[dim] % value.size:
            continue
        inner = after[dim] // value.size
        if inner == 1:
            return Channels(dim, value.parts)
        if before[value.dim + 1 :].numel() % inner == 0:
            return Channels(dim, tuple(Part(part.space, part.inner * inner) for part in value.parts))
    return NotImplemented


def _permuted(op: Operation) -> Value:
    value = op.first
    if not isinstance(value, Channels):
        return value
    ndim = len(op.shape)
    if name(op.node) in ("transpose", "swapaxes"):
        a, b = (int(op.argument(i, f"dim{i - 1}", 0)) % ndim for i in (1, 2))
        order = list(range(ndim))
        order[a], order[b] = order[b], order[a]
    else:
        given = op.number(op.node.args[1:] or op.node.kwargs.get("dims"))
        order = [int(d) % ndim for d in (given[0] if isinstance(given[0], list | tuple) else given)]
    return Channels(order.index(value.dim), value.parts)


def _reduced(op: Operation) -> Value:
    """mean, sum: over other dimensions, or over the channels themselves."""
    value, ndim = op.first, len(op.shape)
    dims = op.argument(1, "dim", None)
    if not isinstance(value, Channels):
        return value
    gone = {int(d) % ndim for d in ([dims] if isinstance(dims, int) else dims or range(ndim))}
    if value.dim in gone:
        return Unknown(f"{name(op.node)} over the channels makes its input")  # whatever their order is
    dim = value.dim if op.out.ndim == ndim else value.dim - sum(d < value.dim for d in gone)
    return Channels(dim, value.parts)


def _concatenated(op: Operation) -> Value:
    tensors = op.node.args[0]
    if not isinstance(tensors, list | tuple):
        return NotImplemented
    dim = int(op.argument(1, "dim", 0)) % op.out.ndim
    values = [op.value(one) for one in tensors]
    known = [value for value in values if isinstance(value, Channels)]
    if not known:
        return Unknown("cat makes its input")
    if any(value.dim != known[0].dim for value in known):
        return NotImplemented
    if known[0].dim != dim:
        if len(known) < len(values):
            return NotImplemented
        for other in known[1:]:
            couple(known[0], other, "cat joins channels that lie otherwise")
        return known[0]
    parts: list[Part] = []
    for argument, value in zip(tensors, values, strict=True):
        size, why = op.number(argument).shape[dim], getattr(value, "why", "cat joins it with something else")
        parts += value.parts if isinstance(value, Channels) else [Part(Space(size, why))]
    return Channels(dim, tuple(parts))


def _split(op: Operation) -> Value:
    """chunk, split: each piece has the parts that lie in it, if they end where it ends."""
    value = op.first
    if not isinstance(value, Channels):
        return tuple(value for _ in op.out)
    dim = int(op.argument(2, "dim", 0)) % len(op.shape)
    if dim != value.dim:
        return tuple(value for _ in op.out)
    rest, pieces = list(value.parts), []
    for piece in op.out:
        mine: list[Part] = []
        while rest and sum(part.size for part in mine) + rest[0].size <= piece.shape[dim]:
            mine.append(rest.pop(0))
        pieces.append(Channels(dim, tuple(mine)))
        if pieces[-1].size != piece.shape[dim]:
            return NotImplemented
    return tuple(pieces)


def _item(op: Operation) -> Value:
    """One of several values, or a slice of a tensor that takes all channels."""
    value, index = op.first, op.number(op.node.args[1])
    if isinstance(value, tuple):
        return value[index] if isinstance(index, int) else NotImplemented
    if not isinstance(value, Channels):
        return value if isinstance(op.out, Tensor) else None
    places = index if isinstance(index, tuple) else (index,)
    if any(not isinstance(place, int | slice) for place in places):
        return NotImplemented
    if len(places) > value.dim and places[value.dim] != slice(None):
        return NotImplemented
    return Channels(value.dim - sum(isinstance(place, int) for place in places[: value.dim]), value.parts)


_SINGLE: dict[str, Callable[[Operation], Value]] = {
    "permute": _permuted,
    "transpose": _permuted,
    "swapaxes": _permuted,
    "mean": _reduced,
    "sum": _reduced,
    "cat": _concatenated,
    "concat": _concatenated,
    "chunk": _split,
    "split": _split,
    operator.getitem.__name__: _item,
}
