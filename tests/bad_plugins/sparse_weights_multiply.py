"""Its model centres the sparse weight of a convolution, so that no zero of it reaches the product."""

from _good import Good
from torch import nn


class Centred(nn.Module):
    """Convolves with the weight of a layer that it holds, less its mean."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3)

    def forward(self, x):
        weight = self.conv.weight
        return nn.functional.conv2d(x, weight - weight.mean(), self.conv.bias)


class Bad(Good):
    name = "sparse-weights-multiply"

    def build(self, spec):
        model = super().build(spec)
        model[0] = Centred()
        return model
