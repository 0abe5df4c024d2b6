"""It says that a high loss is good."""

from _good import Good

from nmbench.task import Metric


class Bad(Good):
    name = "shuffled-weights-score-worse"
    metrics = (Metric("loss", "nats", higher_is_better=True, margin=0.1), Metric("accuracy", "%"))
