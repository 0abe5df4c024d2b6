"""What a method needs to know of Adam's update of one weight, to write its own in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nmbench.sparsity.layer import Layer


@dataclass(frozen=True)
class Adam:
    """Settings and state of one parameter: learning rate, betas, eps, decay (decoupled), moments, step count."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    decay: float
    moment: Tensor
    second: Tensor
    step: float

    @classmethod
    def of(cls, optimizer: Optimizer | None, layer: Layer, name: str) -> Adam | None:
        """Of `layer` in `optimizer`; None before its first update. name: of the method, for the message.

        Raises ValueError if that is no Adam or AdamW, or a variant whose update is another.
        """
        groups = [] if optimizer is None else optimizer.param_groups
        group = next((g for g in groups for p in g["params"] if p is layer.parameter), None)
        if optimizer is None or group is None or "betas" not in group or "eps" not in group:
            raise ValueError(f"method {name!r} needs Adam or AdamW, not {type(optimizer).__name__}")
        if group.get("amsgrad") or group.get("maximize"):
            raise ValueError(f"method {name!r} needs Adam or AdamW without amsgrad and maximize")
        state: dict[str, Any] = optimizer.state.get(layer.parameter, {})
        if "exp_avg_sq" not in state:
            return None
        decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
        decay = float(group["weight_decay"]) if decoupled else 0.0
        beta1, beta2 = map(float, group["betas"])
        moments = state["exp_avg"], state["exp_avg_sq"], float(state["step"])
        return cls(float(group["lr"]), beta1, beta2, float(group["eps"]), decay, *moments)

    def shrunk(self, weight: Tensor) -> Tensor:
        """The weight after its decoupled decay; a new tensor."""
        return weight * (1 - self.lr * self.decay)

    @property
    def rate(self) -> float:
        """Learning rate over the correction of the first moment."""
        return self.lr / (1 - float(self.beta1**self.step))
