"""step: dense Adam until its second moment has settled, which is then frozen; masks from there on.

Lu et al. 2023, STEP: Learning N:M Structured Sparsity Masks from Scratch with Precondition. Followed in the form of
huyz2023/2by4-pretrain 9e33012 (sparse/adamw_step.py), a re-implementation: the authors' own code is not public. Phase
1 is AdamW; once the mean over a window of Z_t = mean |v_t - v_(t-1)| is below Adam's eps, and at `t_min` at the
earliest, at `t_max` at the latest, v is kept as v* (not bias-corrected) and w <- w (1 - lr wd) - lr / (1 - beta1^t) m
/ (sqrt v* + eps^(3/4)), the forward pass being masked, with STE.

Departures: phase 1 is dense in evaluation too. Weights outside of the mask's layers keep their Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch.optim import Optimizer

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.adam import Adam
from nmbench.sparsity.methods.base import DENSE, FOLLOW, Method


class Settings(BaseModel):
    """Hyper-parameters."""

    t_min: float = Field(
        0.1,
        ge=0,
        le=1,
        json_schema_extra={"up_to": "t_max"},
        description="share of training before which it does not switch",
    )
    t_max: float = Field(0.5, ge=0, le=1, description="share of training after which it switches in any case")
    mean: Literal["arithmetic", "geometric"] = Field("arithmetic", description="mean of |v_t - v_(t-1)| over weights")


class STEP(Method):
    """Precondition first, masks second."""

    name = "step"
    settings = Settings
    adam = True

    def rule(self, phase: int, step: int) -> str:
        """Dense until the switch."""
        return FOLLOW if "switched" in self.memory else DENSE

    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Keep what the update of Adam must not touch, or what its change is told from."""
        for layer in layers:
            adam = Adam.of(optimizer, layer, self.name)
            if "frozen" in layer.memory:
                layer.memory["weight"] = layer.values.detach().clone()
            elif "switched" not in self.memory:
                layer.memory["second"] = torch.zeros_like(layer.values) if adam is None else adam.second.clone()

    def after(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Write the update with the frozen second moment, or look whether it has settled."""
        adams = [adam for layer in layers if (adam := Adam.of(optimizer, layer, self.name)) is not None]
        for layer, adam in zip(layers, adams, strict=True):
            if "frozen" in layer.memory:
                root = layer.memory["frozen"].sqrt().add_(adam.eps**0.75)
                weight = adam.shrunk(layer.memory.pop("weight"))
                layer.values.copy_(weight.addcdiv_(adam.moment, root, value=-adam.rate))
        if "switched" not in self.memory and self._settled(layers, adams):
            self.memory["switched"] = self.now.step
            for layer, adam in zip(layers, adams, strict=True):
                layer.memory["frozen"] = adam.second.clone()

    def _settled(self, layers: Sequence[Layer], adams: Sequence[Adam]) -> bool:
        changes = [(adam.second - layer.memory.pop("second")).abs() for layer, adam in zip(layers, adams, strict=True)]
        if self.hyper["mean"] == "geometric":
            changes = [change.log_() for change in changes]
        mean = sum(float(change.sum()) for change in changes) / sum(change.numel() for change in changes)
        if self.hyper["mean"] == "geometric":
            mean = float(torch.tensor(mean).exp())
        window = [*self.memory.get("window", []), mean][-int(1 / (1 - adams[0].beta2)) :]
        self.memory["window"] = window
        if self.now.step > self.now.at(float(self.hyper["t_max"])):
            return True
        settled = sum(window) / len(window) < adams[0].eps
        return settled and self.now.step > self.now.at(float(self.hyper["t_min"]))
