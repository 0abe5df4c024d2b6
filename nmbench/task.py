"""The contract of a task plugin, as its author imports it (nmbench.contract.task says what each part is)."""

from nmbench.contract.task import (
    CONTRACT_VERSION,
    DataError,
    DataInfo,
    Diagnosis,
    DivergedError,
    Metric,
    SkipCell,
    Spec,
    Task,
)

__all__ = [
    "CONTRACT_VERSION",
    "DataError",
    "DataInfo",
    "Diagnosis",
    "DivergedError",
    "Metric",
    "SkipCell",
    "Spec",
    "Task",
]
