"""decaying-mask: pruned weights fade out of the forward pass instead of being cut, or the pattern itself tightens.

Kao et al. 2022, Training Recipe for N:M Structured Sparsity with Decaying Pruning Mask; Bambhaniya et al. 2024,
Progressive Gradient Flow; code abhibambhaniya/progressive_gradient_flow_nm_sparsity 4ee44a4 (sparse_functions.py) and
google/praxis 6b99343^ (the last with decays). After a dense share the forward pass sees w (m + (1 - m) f), f falling
from 1; for the last `fine` share f = 0. Or (`structure`) the pattern goes from loose to N:M in stretches of equal
length.

Departures: f falls over a share of training (`length`), where the authors have 1e-4 a step whatever the length: `rate`
has that form. A stretch is a function of the step, where theirs begins when an epoch equals its key and a resumed run
can miss it; praxis' own structure decay, which goes below N, is left out. `through = false` is praxis' gradient, times
the mask; that f is 0 there after 16 updates is left out.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.gradients import ste
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import DENSE, FOLLOW, Method
from nmbench.sparsity.pattern import NMPattern, stretch


class Settings(BaseModel):
    """Hyper-parameters."""

    decay: Literal["exp", "linear", "step"] = Field("exp", description="how f falls: exponentially, linearly, at once")
    length: float = Field(0.2, gt=0, le=1, description="share of training in which linear f ends, exp f falls to 1/e")
    rate: float = Field(0.0, ge=0, description="instead of length: decay a step (the authors' 1e-4); 0: by length")
    structure: Literal["none", "sparsify", "densify", "geometric"] = Field(
        "none", description="stretches of the pattern: M-1:M to N:M, N:8M to N:M, 8N:8M to N:M; f is 0 then"
    )
    dense: float = Field(
        0.0, ge=0, lt=1, json_schema_extra={"beside": "fine"}, description="share of training before the first mask"
    )
    fine: float = Field(0.1, ge=0, lt=1, description="last share of training, with the plain N:M mask")
    through: bool = Field(True, description="the gradient passes pruned weights whole; false: times the mask")


def stretches(kind: str, n: int, m: int) -> list[tuple[int, int]]:
    """The patterns of one structure decay, from the first to N:M itself."""
    if kind == "sparsify":
        halves = [(max(m >> i, n), m) for i in range(1, int(math.log2(m / n)) + 1)]
        return [(m - 1, m), *halves]
    return [(n * d if kind == "geometric" else n, m * d) for d in (8, 4, 2, 1)]


class DecayingMask(Method):
    """Masks that fade in."""

    name = "decaying-mask"
    settings = Settings

    def rule(self, phase: int, step: int) -> str:
        """Dense for the first share, if any."""
        share = float(self.hyper["dense"])
        return DENSE if share and step < self.now.at(share) else FOLLOW

    def pattern(self, layer: Layer, step: int) -> NMPattern:
        """That of the stretch, under structure decay."""
        if self.hyper["structure"] == "none":
            return layer.asked
        frames = stretches(str(self.hyper["structure"]), layer.asked.n, layer.asked.m)
        start, end = self.now.at(float(self.hyper["dense"])), self.now.at(1 - float(self.hyper["fine"]))
        width = (end - start) / len(frames)
        place = sum(step >= int(start + k * width) for k in range(1, len(frames)))
        return stretch(*frames[place], layer.asked.axis)

    @property
    def factor(self) -> float:
        """f, by which pruned weights are multiplied in the coming forward pass."""
        hyper, since = self.hyper, self.now.step - self.now.at(float(self.hyper["dense"]))
        if hyper["decay"] == "step" or hyper["structure"] != "none":
            return 0.0
        if hyper["fine"] and self.now.step >= self.now.at(1 - float(hyper["fine"])):
            return 0.0
        fallen = since * (float(hyper["rate"]) or 1 / max(self.now.at(float(hyper["length"])), 1))
        return math.exp(-fallen) if hyper["decay"] == "exp" else max(1 - fallen, 0.0)

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """w (m + (1 - m) f)."""
        values = weight.detach() if self.hyper["through"] else weight
        faded = torch.where(layer.mask, values, values * self.factor)
        return ste(weight, faded) if self.hyper["through"] else faded
