"""Its weights are those of one seed, whatever the cell's."""

from _good import Good


class Bad(Good):
    name = "initial-weights-follow-the-seed"

    def build(self, spec):
        import torch

        torch.manual_seed(0)
        return super().build(spec)
