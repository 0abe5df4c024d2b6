"""ast: SR-STE's decay of pruned weights for Adam: behind the momentum, before the second moment; masks every 10 steps.

Huang et al. 2024, Pruning Large Language Models with Semi-Structural Adaptive Sparse Training; code thu-ml/Adaptive-
Sparse-Trainer 723d742 (adamw.py). m is the average of the loss gradient alone; u = m + d (1 - m_ask) w; v is that of
u; w <- w (1 - lr wd) - lr / (1 - beta1^t) u / (sqrt(v / (1 - beta2^t)) + eps). d rises from 0 over `ramp`.

Departures: the mask is a mask. In their code it is an integer, of which `~` is -2 or -1, so that d has the wrong sign
and acts on kept weights as well. Masks are by magnitude (they offer Wanda's score too). Their
distillation from the dense model is the training's affair (`distill`); with their low-rank branch the method is called
ast-slorb.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch.optim import Optimizer

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.adam import Adam
from nmbench.sparsity.methods.base import FOLLOW, KEEP, Method


class Settings(BaseModel):
    """Hyper-parameters."""

    every: int = Field(10, ge=1, description="optimizer steps from one mask to the next")
    decay: float = Field(6e-5, ge=0, description="d at its full height (1e-4 for GPT-2)")
    ramp: float = Field(0.1, ge=0, le=1, description="share of training over which d rises")


class AST(Method):
    """Adaptive sparse trainer."""

    name = "ast"
    settings = Settings
    adam = True

    def rule(self, phase: int, step: int) -> str:
        """A new mask every so many steps."""
        return KEEP if step % int(self.hyper["every"]) else FOLLOW

    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Keep weight and second moment, which the update is written from."""
        for layer in layers:
            adam = Adam.of(optimizer, layer, self.name)
            second = torch.zeros_like(layer.values) if adam is None else adam.second.clone()
            layer.memory.update(weight=layer.values.detach().clone(), second=second)

    def after(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Write the update."""
        full = self.now.at(float(self.hyper["ramp"]))
        decay = float(self.hyper["decay"]) * min(self.now.step / max(full, 1), 1.0)
        for layer in layers:
            if (adam := Adam.of(optimizer, layer, self.name)) is None:
                continue
            weight = adam.shrunk(layer.memory.pop("weight"))
            change = adam.moment + decay * torch.where(layer.mask, 0, weight)
            second = layer.memory.pop("second").mul_(adam.beta2).addcmul_(change, change, value=1 - adam.beta2)
            adam.second.copy_(second)
            root = second.div_(1 - adam.beta2**adam.step).sqrt_().add_(adam.eps)
            layer.values.copy_(weight.addcdiv_(change, root, value=-adam.rate))
