"""nm-rigl, nm-set, gmp: the classic schedules of sparse training, held to N:M. Controls for the methods of the field.

Evci et al. 2020 (RigL), Mocanu et al. 2018 (SET), Zhu and Gupta 2017 (gradual magnitude pruning); N:M forms as in
mklasby/sparsimony f4af0e4. RigL and SET drop the weakest share of the kept weights over the whole layer, by a cosine
that ends at `until`, and fill each group up to N: by the largest gradient, or at random. What was just dropped may
come back. GMP prunes by magnitude over the layer, cubically, but never the N largest of a group, so that it ends at
N:M.

Departures: the cubic form of GMP is that of its paper, not the accelerated one. A grown weight starts at zero (theirs
keeps its old value, an oversight), and so does the optimizer's state of it. Masks begin as magnitude masks; pruned
weights are held at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.optim import Optimizer

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.mask import torch_mask
from nmbench.sparsity.methods.base import FOLLOW, KEEP, Method


class Settings(BaseModel):
    """Hyper-parameters of RigL and SET."""

    every: int = Field(100, ge=1, description="optimizer steps from one mask to the next")
    drop: float = Field(0.3, ge=0, le=1, description="share of the kept weights that the first change drops")
    until: float = Field(0.75, ge=0, le=1, description="share of training after which the mask stays")


def zero_where(optimizer: Optimizer | None, layer: Layer, where: Tensor) -> None:
    """Clear what the optimizer keeps of these weights (momentum, moments)."""
    state = {} if optimizer is None else optimizer.state.get(layer.parameter, {})
    for value in state.values():
        if isinstance(value, Tensor) and value.shape == where.shape:
            value.masked_fill_(where, 0)


class SET(Method):
    """Drop by magnitude, grow at random."""

    name = "nm-set"
    settings = Settings

    def rule(self, phase: int, step: int) -> str:
        """A new mask every so many steps, up to `until`."""
        over = step and step >= self.now.at(float(self.hyper["until"]))
        return KEEP if over or step % int(self.hyper["every"]) else FOLLOW

    def growth(self, layer: Layer) -> Tensor:
        """What speaks for a weight to be grown; of the weight's shape, not negative."""
        chance = torch.rand(layer.values.shape, generator=layer.generator(self.now.step), device=layer.values.device)
        return chance

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """The kept ones that stay, filled up by `growth`."""
        if layer.memory.get("changed", 0) == self.now.step:  # at the start, or asked again
            return layer.mask.clone() if self.now.step else super().mask(layer, weight)
        layer.memory["changed"] = self.now.step
        fresh = self.changed(layer, weight, self.growth(layer))
        weight.masked_fill_(~(fresh & layer.mask), 0)
        layer.memory["fresh"] = fresh & ~layer.mask
        return fresh

    def changed(self, layer: Layer, weight: Tensor, growth: Tensor) -> Tensor:
        """The mask after one drop and one growth."""
        kept = weight.abs()[layer.mask]
        cosine = math.cos(math.pi * self.now.step / max(self.now.at(float(self.hyper["until"])), 1))
        stay = int((1 - float(self.hyper["drop"]) / 2 * (1 + cosine)) * kept.numel())
        weakest = kept.kthvalue(kept.numel() - stay).values if stay < kept.numel() else kept.new_tensor(-1.0)
        stays = layer.mask & (weight.abs() > weakest)
        return torch_mask(torch.where(stays, math.inf, growth.to(weight.dtype)), layer.pattern, layer.grouping)

    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Pruned weights get no gradient; the state of those that were just grown is cleared."""
        for layer in layers:
            if (fresh := layer.memory.pop("fresh", None)) is not None:
                zero_where(optimizer, layer, ~layer.mask | fresh)
            if (grad := layer.grad) is not None:
                self.watch(layer, grad)
                grad.masked_fill_(~layer.mask, 0)

    def watch(self, layer: Layer, grad: Tensor) -> None:
        """See the whole gradient, that of pruned weights too, before it is cut."""

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Pruned weights get no gradient."""
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """E * g."""
        return grad * mask


class RigL(SET):
    """Drop by magnitude, grow by the gradient."""

    name = "nm-rigl"

    def watch(self, layer: Layer, grad: Tensor) -> None:
        """Keep the gradient of the step before a change."""
        if self.rule(self.now.phase, self.now.step + 1) == FOLLOW:
            layer.memory["growth"] = grad.abs()

    def growth(self, layer: Layer) -> Tensor:
        """Its magnitude; at random where none was seen (a layer that had no gradient)."""
        found = layer.memory.pop("growth", None)
        return super().growth(layer) if found is None else found


class GMPSettings(BaseModel):
    """Hyper-parameters of GMP."""

    every: int = Field(50, ge=1, description="optimizer steps from one mask to the next")
    start: float = Field(
        0.0, ge=0, lt=1, json_schema_extra={"up_to": "end"}, description="share of training at which pruning begins"
    )
    end: float = Field(0.75, gt=0, le=1, description="share of training at which the pattern is reached")


class GMP(Method):
    """Gradual magnitude pruning that ends at N:M."""

    name = "gmp"
    settings = GMPSettings

    def rule(self, phase: int, step: int) -> str:
        """A new mask every so many steps, the last at the end of pruning."""
        last = self.now.at(float(self.hyper["end"]))
        return FOLLOW if step == last or (step < last and not step % int(self.hyper["every"])) else KEEP

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """The smallest of the layer go, but never the N largest of a group."""
        start, end = self.now.at(float(self.hyper["start"])), self.now.at(float(self.hyper["end"]))
        share = min(max((self.now.step - start) / max(end - start, 1), 0.0), 1.0)
        safe = torch_mask(weight, layer.pattern, layer.grouping)
        spare = int((~safe).sum())
        part = int((1 - layer.pattern.density) * (1 - (1 - share) ** 3) * weight.numel())
        count = spare if share == 1.0 else min(part, spare)
        order = weight.abs().masked_fill(safe, math.inf).flatten().argsort()
        kept = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
        kept = kept.index_fill_(0, order[:count], False).view(weight.shape)
        weight.masked_fill_(~kept, 0)
        return kept

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Pruned weights get no gradient."""
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """E * g."""
        return grad * mask
