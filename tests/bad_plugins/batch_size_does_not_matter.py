"""It averages the losses of batches of unequal size."""

from _good import Good


class Bad(Good):
    name = "batch-size-does-not-matter"

    def evaluate(self, model, run):
        found = super().evaluate(model, run)
        return {**found, "loss": found["loss"] + 1 / run.spec.train["eval_batch"]}
