"""What a method keeps, as a saved state holds it: copies of plain values and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def copied(kept: Mapping[str, Any], device: torch.device | None = None) -> dict[str, Any]:
    """`kept` with tensors and lists of its own; tensors on `device`, if given."""
    return {key: _copied(value, device) for key, value in kept.items()}


def _copied(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone() if device is None else value.detach().to(device, copy=True)
    return list(value) if isinstance(value, list) else value
