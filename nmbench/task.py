"""All that the author of a task plugin imports (nmbench.contract says what each part is)."""

from nmbench.contract.data import made_once
from nmbench.contract.modes import evaluating
from nmbench.contract.run import Run
from nmbench.contract.spec import DataError, DataInfo, Diagnosis, DivergedError, Metric, NonFiniteError, SkipCell, Spec
from nmbench.contract.task import CONTRACT_VERSION, Task

__all__ = [
    "CONTRACT_VERSION",
    "DataError",
    "DataInfo",
    "Diagnosis",
    "DivergedError",
    "Metric",
    "NonFiniteError",
    "Run",
    "SkipCell",
    "Spec",
    "Task",
    "evaluating",
    "made_once",
]
