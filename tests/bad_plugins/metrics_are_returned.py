"""It forgets a metric that it declares."""

from _good import Good


class Bad(Good):
    name = "metrics-are-returned"

    def evaluate(self, model, run):
        return {"accuracy": super().evaluate(model, run)["accuracy"]}
