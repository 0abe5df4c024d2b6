"""maskllm: the mask is learned, as a choice among all combinations, for a trained network whose weights stay.

Fang et al. 2024, MaskLLM: Learnable Semi-Structured Sparsity for Large Language Models; checked against NVlabs/MaskLLM
50e50de (written from its description; no line of that code is here). Each group has a logit a combination; the forward
pass sees w times a Gumbel-softmax over them, whose temperature falls from 4 to 0.05 while the logits' scale rises from
100 to 500, both linearly; the loss is lowered by `reg` (1 - t) sum (w mask)^2, against vanishing gradients. In the end
the likeliest.

Two passes: the dense network (that of the dense twin), then the masks. Departures: the prior is the
magnitude mask of the dense pass, by `prior` standard deviations, and logits train at the learning rate of all. The
weights that get masks stay; biases, norms and dense layers train on, which theirs do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.optim import Optimizer

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.mask import torch_mask
from nmbench.sparsity.methods.base import DENSE, FOLLOW, Method
from nmbench.sparsity.methods.combinations import combinations, group_count, too_many
from nmbench.sparsity.pattern import NMPattern

_MOST = 35
_TEMPERATURE, _SCALE = (4.0, 0.05), (1e2, 5e2)


class Settings(BaseModel):
    """Hyper-parameters."""

    std: float = Field(0.01, gt=0, description="standard deviation of the logits at first")
    prior: float = Field(3.0, ge=0, description="how far the magnitude mask leads at first, in standard deviations")
    reg: float = Field(1e-5, ge=0, description="weight of the term that keeps kept weights large")


class MaskLLM(Method):
    """Learnable masks."""

    name = "maskllm"
    settings = Settings
    phases = 2
    starts_dense = True

    def refuses(self, pattern: NMPattern) -> str:
        """Too many combinations."""
        return too_many(pattern, _MOST)

    def rule(self, phase: int, step: int) -> str:
        """Dense in the first pass."""
        return FOLLOW if phase > 0 else DENSE

    def extra(self, layer: Layer) -> dict[str, nn.Parameter]:
        """gate: (groups, combinations)."""
        values, choices = layer.values, len(combinations(layer))
        shape = group_count(layer), choices
        drawn = torch.randn(shape, generator=layer.generator(), device=values.device)
        return {"gate": nn.Parameter((drawn * float(self.hyper["std"])).to(values.dtype))}

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """The likeliest combination; in the dense pass that of magnitude."""
        if self.now.phase == 0:
            return super().mask(layer, weight)
        self._lead(layer, weight)
        gate, choices = layer.extra["gate"].detach(), combinations(layer)
        return layer.ungrouped(choices[gate.argmax(1)]) > 0

    def _lead(self, layer: Layer, weight: Tensor) -> None:
        """Let the magnitude mask lead, once, when the masks begin to be learned."""
        if "led" not in layer.memory:
            magnitude = layer.groups(torch_mask(weight, layer.pattern, layer.grouping).to(weight.dtype))
            overlap = magnitude @ combinations(layer).t()
            gate = layer.extra["gate"].detach()
            gate.add_((overlap - 1) * gate.std() * float(self.hyper["prior"]))
            layer.memory["led"] = 1

    def soft(self, layer: Layer, noise: Tensor) -> Tensor:
        """The mask in (0, 1), of the weight's shape, differentiable. noise: Gumbel, (groups, combinations)."""
        part = min(self.now.step / max(self.now.at(1.0), 1), 1.0)
        temperature, scale = (a + (b - a) * part for a, b in (_TEMPERATURE, _SCALE))
        chance = ((layer.extra["gate"] * scale + noise) / temperature).softmax(1)
        return layer.ungrouped(chance @ combinations(layer))

    def _noise(self, layer: Layer) -> Tensor:
        generator = layer.generator(self.now.phase, self.now.step)
        return -torch.empty_like(layer.extra["gate"]).exponential_(generator=generator).log_()

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """The frozen weight times a drawn mask; in evaluation, the likeliest."""
        if not layer.module.training:
            return torch.where(layer.mask, weight, 0).detach()
        return weight.detach() * self.soft(layer, self._noise(layer))

    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Add the gradient of the term that keeps weights large; the weights themselves have none."""
        if self.now.phase == 0:
            return
        part = float(self.hyper["reg"]) * (1 - min(self.now.step / max(self.now.at(1.0), 1), 1.0))
        for layer in layers:
            layer.parameter.grad = None
            gate = layer.extra["gate"]
            if part and gate.grad is not None:
                with torch.enable_grad():
                    kept = (layer.values.detach() * self.soft(layer, self._noise(layer))).square().sum()
                    gate.grad.add_(torch.autograd.grad(kept, gate)[0], alpha=-part)
