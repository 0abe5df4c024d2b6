"""It trains a sparse model at another rate than a dense one."""

from _good import Good


class Bad(Good):
    name = "equal-n-and-m-is-dense"

    def optimizer(self, model, run):
        import torch

        sparse = run._handle is not None and run._handle.method.name != "dense"
        return torch.optim.SGD(model.parameters(), lr=0.05 if sparse else 0.1, momentum=0.9)
