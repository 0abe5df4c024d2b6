"""It leaves a log in the working folder."""

from pathlib import Path

from _good import Good


class Bad(Good):
    name = "nothing-is-written-elsewhere"

    def train(self, model, run):
        super().train(model, run)
        Path("training.log").write_text("done")
