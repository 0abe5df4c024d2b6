"""Modules that multiply with the weights of their layers by name, past the layers, brought to call them instead.

called    a context in which fairseq's attention calls its projections, so that it is seen with what
settle    what has a replaced layer inside calls it from now on

Both know of a module what it says of itself: nothing is imported for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["called", "settle"]

#: of fairseq's MultiheadAttention: as long as it is False, torch's function gets the weights of the projections
_FAIRSEQ = "skip_embed_dim_check"


@contextmanager
def called(model: nn.Module) -> Iterator[None]:
    """Each module is as it was afterwards."""
    told = [module for module in model.modules() if getattr(module, _FAIRSEQ, None) is False]
    for module in told:
        setattr(module, _FAIRSEQ, True)
    try:
        yield
    finally:
        for module in told:
            setattr(module, _FAIRSEQ, False)


def settle(module: nn.Module) -> None:
    """`module` itself, not those inside it. torch's fused encoder and fairseq's attention would read dense weights."""
    from nmbench.kernels.layers import SparseLayer

    if not any(isinstance(inner, SparseLayer) for inner in module.modules()):
        return
    if isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0  # which is how torch itself marks a layer that the fused path cannot take
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False
    if getattr(module, _FAIRSEQ, None) is False:
        setattr(module, _FAIRSEQ, True)
