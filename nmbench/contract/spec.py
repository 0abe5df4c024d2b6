"""The values that a task and the suite exchange."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class DataError(Exception):
    """The data are missing or broken; the cell ends with status `data`. Say what is wrong, where, and what to do."""


class DivergedError(Exception):
    """Training left every useful range (finite, but hopeless); the cell ends with status `diverged`."""


class NonFiniteError(Exception):
    """The training loss is NaN or infinite; the cell ends with status `nan`."""


class SkipCell(Exception):
    """The cell makes no sense here (say, a GPU-only setting on a CPU); it ends with status `skipped`."""


@dataclass(frozen=True)
class Metric:
    """One number that a task reports.

    `margin` is the non-inferiority margin in the metric's own unit: a sparse model that is certainly
    less than `margin` worse than its dense twin counts as "not worse".
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    margin: float = 0.0


@dataclass(frozen=True)
class DataInfo:
    """Prepared data on disk: its folder, `counts` (for instance images by split) and a content `fingerprint`.

    `notes` are sentences for the record and the report: what was left out of the data, say, and why.
    """

    path: Path
    counts: Mapping[str, int]
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """What is to be built and trained: the scientific fields of a cell that a task may look at.

    `train` holds the scale's settings with the cell's overrides on top. The method and the pattern are left
    out on purpose: a task that saw them could treat a sparse model differently from its dense twin.
    """

    task: str
    model: str
    scale: str
    seed: int
    train: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True)
class Diagnosis:
    """Something about this installation that a task's user should know, on one line; ok: nothing is wrong with it."""

    text: str
    ok: bool = True
