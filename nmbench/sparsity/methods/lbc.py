"""lbc: a score for each combination of N out of M, learned beside the weight; the worst are removed until one is left.

Zhang et al. 2022, Learning Best Combination for Efficient N:M Sparsity; code zyxxmu/LBC d21077c
(ResNet/utils/conv_type.py, imagenet.py). The mask covers what the remaining combinations keep: all at first. In each
step all but ceil((C - 1) (1 - t)^3) + 1 of the C scores are set to zero, the smallest first, t going from 0 to 1
between `start` and `end`. The weight has the masked gradient (no STE); a score has the sum of g * w over its
combination.

Departures: none that is meant. A removed combination may come back, since momentum moves its score, as in theirs, also
after `end`. It needs C(M, N) / M more numbers a weight, so that large M are refused.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from nmbench.sparsity.gradients import ste
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.methods.combinations import combinations, group_count, too_many
from nmbench.sparsity.pattern import NMPattern

_MOST = 70  # those of 4:8


class Settings(BaseModel):
    """Hyper-parameters."""

    start: float = Field(
        0.0, ge=0, lt=1, json_schema_extra={"up_to": "end"}, description="share of training at which removal begins"
    )
    end: float = Field(0.5, gt=0, le=1, description="share of training at which one combination is left")


class LBC(Method):
    """Learning the best combination."""

    name = "lbc"
    settings = Settings

    def refuses(self, pattern: NMPattern) -> str:
        """Too many combinations."""
        return too_many(pattern, _MOST)

    def extra(self, layer: Layer) -> dict[str, nn.Parameter]:
        """score: (groups, combinations), such that all together cover the group evenly."""
        asked, values = layer.asked, layer.values
        first = 1 / math.comb(asked.m - 1, asked.n - 1)
        return {"score": nn.Parameter(values.new_full((group_count(layer), math.comb(asked.m, asked.n)), first))}

    def removed(self, count: int) -> int:
        """How many of `count` combinations are out by now."""
        start, end = self.now.at(float(self.hyper["start"])), self.now.at(float(self.hyper["end"]))
        done = min(max((self.now.step - start) / max(end - start, 1), 0.0), 1.0)
        return count - 1 - math.ceil((count - 1) * (1 - done) ** 3)

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """Remove the worst; keep what the others cover."""
        score, choices = layer.extra["score"].detach(), combinations(layer)
        if (out := self.removed(len(choices))) > 0:
            score.masked_fill_(score == 0, -1000.0)
            score.scatter_(1, score.topk(out, dim=1, largest=False).indices, 0.0)
        return layer.ungrouped((score @ choices) != 0)

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """w times the mask, through which a gradient goes to the scores."""
        if not torch.is_grad_enabled():
            return torch.where(layer.mask, weight, 0)
        score = layer.extra["score"]
        soft = layer.ungrouped((score * (score != 0)) @ combinations(layer))
        return ste(soft, layer.mask) * weight
