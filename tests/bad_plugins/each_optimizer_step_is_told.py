"""It tells of every other optimizer step only."""

from _good import Good


class Bad(Good):
    name = "each-optimizer-step-is-told"

    def train(self, model, run):
        self.odd = False
        super().train(model, run)

    def batch(self, run, x, y):
        self.odd = not self.odd
        pick = run.rng(int(self.odd), run.updates).integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]

    def after(self, run, loss):
        if not self.odd:
            super().after(run, loss)

    def save(self, run, model, optimizer):
        if not self.odd:
            super().save(run, model, optimizer)
