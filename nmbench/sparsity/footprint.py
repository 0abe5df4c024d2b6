"""What a method keeps in training beside weights, gradients and the optimizer's own state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from nmbench.sparsity.handle import Handle


def method_bytes(handle: Handle) -> int:
    """Bytes of masks, learnable tensors, and what is remembered of each layer and of all; 0 for dense training."""
    if handle.method.name == "dense":  # its masks are watched only
        return 0
    held: list[Any] = [handle.method.memory]
    for weight in handle._weights:
        held += [weight.mask, weight.memory, dict(weight.extra)]
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(held))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
