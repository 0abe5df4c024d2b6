"""The second training of a cell finds something in a cache, and takes other steps for it."""

from _good import Good


class Bad(Good):
    name = "equal-seeds-give-equal-results"

    def optimizer(self, model, run):
        import torch

        cell = (run.spec.seed, run._handle.method.name)
        self.seen = {**getattr(self, "seen", {}), cell: getattr(self, "seen", {}).get(cell, 0) + 1}
        return torch.optim.SGD(model.parameters(), lr=0.1001 if self.seen[cell] == 2 else 0.1, momentum=0.9)
