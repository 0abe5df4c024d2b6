"""A measurement taken of every cell: a class named in the entry-point group `nmbench.measurements`, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol

from nmbench._util.errors import first_line
from nmbench.contract.run import Run, finite
from nmbench.contract.spec import Spec
from nmbench.contract.task import Task
from nmbench.records import schema
from nmbench.records.schema import Record

if TYPE_CHECKING:
    from torch import nn

    from nmbench.sparsity import Handle


@dataclass(frozen=True)
class Trained:
    """A cell after its training and evaluation.

    Attributes:
        task, spec: whose it is.
        model: finalised: its weights hold their zeros. On the CPU; in the mode that evaluation left.
        handle: of its sparsity: pattern, layers, method, flips.
        runs: one for each training pass; the last one has what evaluation stored.
        record: as it will be written, `metrics` and `cost` included.
    """

    task: Task
    spec: Spec
    model: nn.Module
    handle: Handle
    runs: list[Run]
    record: Record


class Measurement(Protocol):
    """A number for each cell, named by its entry point; `measurement.<name>` in the frame."""

    unit: str

    def measure(self, trained: Trained) -> float:
        """The number. What it raises becomes a note of the record; the model is to be left as it was."""


def take(trained: Trained) -> None:
    """Take all measurements and put them into the record."""
    for point in sorted(entry_points(group="nmbench.measurements"), key=lambda point: point.name):
        try:
            taken = _one(point, trained)
        except Exception as error:  # whatever a stranger's code raises: a training is worth more than a figure
            trained.record.notes.append(f"The measurement {point.name} was not taken: {first_line(error)}")
        else:
            trained.record.measurements = [*trained.record.measurements, taken]


def _one(point: EntryPoint, trained: Trained) -> schema.Measurement:
    measurement: Measurement = point.load()()
    value = finite(measurement.measure(trained), f"the measurement {point.name!r}")
    source = point.dist.name if point.dist else None
    return schema.Measurement(name=point.name, unit=measurement.unit, value=value, source=source)
