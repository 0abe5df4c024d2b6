"""Its momentum is lost when it resumes."""

from _good import Good


class Bad(Good):
    name = "resuming-changes-nothing"

    def save(self, run, model, optimizer):
        import torch

        run.save_checkpoint(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
