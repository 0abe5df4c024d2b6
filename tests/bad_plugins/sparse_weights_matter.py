"""In evaluation its convolution computes with a copy of the weight that loading renews: what is zeroed does not run."""

from __future__ import annotations

from _good import Good
from torch import nn


class Shadowed(nn.Conv2d):
    """Keeps a shadow of its weight for a fast path, as fused kernels do."""

    shadow = None

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.shadow = self._parameters["weight"].detach().clone()

    def forward(self, x):
        weight = self.weight if self.shadow is None or self.training else self.shadow
        return self._conv_forward(x, weight, self.bias)


class Bad(Good):
    name = "sparse-weights-matter"

    def build(self, spec):
        model = super().build(spec)
        model[0] = Shadowed(8, 16, 3)
        return model
