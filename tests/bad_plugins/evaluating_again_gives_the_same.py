"""Its loss depends on where the global generator happens to stand."""

from _good import Good


class Bad(Good):
    name = "evaluating-again-gives-the-same"

    def evaluate(self, model, run):
        import torch

        found = super().evaluate(model, run)
        with torch.random.fork_rng():
            return {**found, "loss": found["loss"] + 1e-6 * float(torch.rand(()))}
