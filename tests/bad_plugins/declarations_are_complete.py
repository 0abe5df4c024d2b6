"""Its primary metric has no margin."""

from _good import Good

from nmbench.task import Metric


class Bad(Good):
    name = "declarations-are-complete"
    metrics = (Metric("accuracy", "%"), Metric("loss", "nats", higher_is_better=False))
