"""Modules that multiply with the weights of their layers by name, past the layers, brought to call them instead.

torch's attention has no such switch: one of ours (attention.py) stands in place of it. Of fairseq's only what it
says of itself is known: nothing is imported for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from nmbench.kernels.conversion.layers import SparseLayer

#: class, attribute, and the value with which it calls its layers. 0 is how torch itself marks a layer that the fused
#: path cannot take; fairseq's: as long as it is False, torch's function gets the weights of the projections
_SWITCHES: tuple[tuple[type[nn.Module], str, Any], ...] = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
    (nn.Module, "skip_embed_dim_check", True),
)


def _switch(module: nn.Module) -> tuple[str, Any] | None:
    """The attribute that is to be changed, and to what."""
    for kind, name, value in _SWITCHES:
        before = getattr(module, name, None)
        if isinstance(module, kind) and isinstance(before, int) and before != value:
            return name, value
    return None


def bypassing(model: nn.Module) -> list[nn.Module]:
    """Those that would go past their layers now, in the model's order; attention of torch's own among them."""
    return [m for m in model.modules() if type(m) is nn.MultiheadAttention or _switch(m) is not None]


@contextmanager
def called(model: nn.Module) -> Iterator[None]:
    """Each module is as it was afterwards."""
    before: list[tuple[nn.Module, str, Any]] = []
    for module in model.modules():
        if (switch := _switch(module)) is not None:
            before.append((module, switch[0], getattr(module, switch[0])))
            setattr(module, *switch)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def settle(module: nn.Module) -> None:
    """`module` itself, not those inside it. It would read dense weights else, which are unpacked at each access."""
    switch = _switch(module)
    if switch is not None and any(isinstance(inner, SparseLayer) for inner in module.modules()):
        setattr(module, *switch)
