"""Mixed precision for fairseq's optimizer: bfloat16 needs no care, float16 has its losses scaled.

Precision     how one update computes: `forward()`, `backward(loss)`, `unscale()`, `step()`
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

__all__ = ["Precision"]

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Precision `name` ("fp32", "bf16" or "fp16") for the torch optimizer `optimizer` on `device`.

    Weights, gradients and Adam's moments are float32 in each.
    """

    def __init__(self, name: str, device: torch.device, optimizer: torch.optim.Optimizer) -> None:
        self._type, self._device, self._optimizer = _TYPES[name], device.type, optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self) -> AbstractContextManager[Any]:
        """Matrix products in the lower precision."""
        return torch.autocast(self._device, self._type, enabled=self._type is not torch.float32)

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, added to those that are there."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's own

    def unscale(self) -> None:
        """Gradients in their own units again. Before anything that looks at their size."""
        self.scaler.unscale_(self._optimizer)

    def step(self) -> bool:
        """The optimizer's step. False if a gradient overflowed float16: no step was done, and the scale is halved."""
        before = self.scaler.get_scale()
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before
