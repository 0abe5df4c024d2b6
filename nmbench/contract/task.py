"""The contract of a task plugin: subclass `Task`, name it in the entry-point group `nmbench.tasks`, and it takes part.

    Metric     one number that a task reports, with its unit, direction and non-inferiority margin
    Spec       what is to be trained: model, scale, settings, seed
    DataInfo   where the prepared data lie, how much there is, and a fingerprint
    Run        what the worker hands to `train` and `evaluate` (see nmbench.contract.run)
    Task       the contract itself

A task knows nothing of sparsity: the worker sparsifies the model between `build` and `train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from nmbench._util.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from nmbench.contract.run import Run

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

CONTRACT_VERSION = 1


class DataError(Exception):
    """The data are missing or broken; the cell ends with status `data`. Say what is wrong, where, and what to do."""


class DivergedError(Exception):
    """Training left every useful range (finite, but hopeless); the cell ends with status `diverged`."""


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


class Task:
    """Subclass this; see `docs` or `nmbench_tasks.classification` for an example.

    Class attributes are declarations that the parent process reads without running the task.
    """

    contract_version: ClassVar[int] = CONTRACT_VERSION
    name: ClassVar[str] = ""
    #: the first metric is the primary one
    metrics: ClassVar[tuple[Metric, ...]] = ()
    #: distributions that must be installed, as PEP 508 text ("a>=1 | b" if one of them is enough), and how to add them
    requires: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    #: names of models; the first is the default unless `default_models` names another for the scale
    models: ClassVar[tuple[str, ...]] = ()
    default_models: ClassVar[Mapping[str, str]] = {}
    #: True if `build` also takes names that are not in `models` (a path to a config file, say)
    open_models: ClassVar[bool] = False
    #: scale -> every training setting with its default there; a matrix may override exactly these
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: a pydantic model of the settings (type, range, help text), where there is one
    settings: ClassVar[type[BaseModel] | None] = None

    #: conformance checks (`nmbench check`) that this task is known to fail, each with the reason
    expected_failures: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def declared(cls, scale: str) -> Settings:
        """Every setting at a scale, with its default, type, range and help."""
        return Settings.declared(cls.scales[scale], cls.settings)

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        """Make or verify the data below `root`. Safe to call again and from several processes at once.

        Raises DataError if the data are missing or broken.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prepare()")

    def build(self, spec: Spec) -> nn.Module:
        """The dense model with its initial weights. The global generators are seeded from (seed, "init") before."""
        raise NotImplementedError(f"{type(self).__name__} has no build()")

    def candidates(self, model: nn.Module) -> Iterable[str] | None:
        """Names of the weights that may be sparsified.

        None (the default) takes every convolution and linear weight but those of the last linear layer.
        """
        return None

    def train(self, model: nn.Module, run: Run) -> None:
        """Train `model` in place. Call `run.bind(optimizer)` once and `run.step(...)` once an optimizer step."""
        raise NotImplementedError(f"{type(self).__name__} has no train()")

    def evaluate(self, model: nn.Module, run: Run) -> dict[str, float]:
        """Metric name -> value, for every declared metric, of the model as it is (the last epoch, not the best)."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate()")

    def example_inputs(self, spec: Spec) -> tuple[Any, ...]:
        """Positional inputs of one forward pass with batch size 1, for cost and latency."""
        raise NotImplementedError(f"{type(self).__name__} has no example_inputs()")

    def diagnosis(self) -> Iterable[Diagnosis]:
        """What `nmbench doctor` should say of this task's engine: its version, say, and whether parts of it work.

        It is asked where requirements are missing too, in a process of its own.
        """
        return ()
