"""Where finished cells are sent besides their records: TensorBoard, MLflow, Weights & Biases.

    base        Sink, the class to write for another place
    finished    one ended attempt, flat: parameters, metrics, series, tags
    outbox      the way of attempts to sinks, each in processes of its own
    tensorboard, mlflow, wandb    the sinks that come with nmbench

`python -m nmbench.sinks` is such a process. A sink is found by its name in the entry-point group `nmbench.sinks`.
Nothing here imports torch, and a sink's own library only when it opens.
"""

from nmbench.sinks.base import Sink
from nmbench.sinks.finished import Finished, finished

__all__ = ["Finished", "Sink", "finished"]
