"""It saves something else than it computes with: the pruned weights come back when the file is loaded."""

from __future__ import annotations

from _good import Good
from torch import nn


class Leaky(nn.Conv2d):
    """Its state dict holds no zeros."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if type(self) is Leaky:  # not while a method is at work
            weight = destination[prefix + "weight"]
            destination[prefix + "weight"] = weight + 1e-6 * (weight == 0)


class Bad(Good):
    name = "saved-weights-stay-sparse"

    def build(self, spec):
        model = super().build(spec)
        model[0] = Leaky(8, 16, 3)
        return model
