"""It leaves the model in evaluation mode."""

from _good import Good


class Bad(Good):
    name = "evaluating-leaves-no-trace"

    def mode(self, model):
        model.eval()
