"""It keeps every model that it ever trained."""

from typing import ClassVar

from _good import Good


class Bad(Good):
    name = "memory-is-given-back"
    kept: ClassVar[list] = []

    def train(self, model, run):
        import torch

        super().train(model, run)
        self.kept.append(torch.zeros(2**20))
