"""The contract of a task plugin: subclass `Task`, name it in the entry-point group `nmbench.tasks`, and it takes part.

A task knows nothing of sparsity: the worker sparsifies the model between `build` and `train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from nmbench._util.settings import Settings
from nmbench.contract.spec import DataInfo, Diagnosis, Metric, Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nmbench.contract.run import Run

CONTRACT_VERSION = 1


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

    def logits(self, output: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
        """Of one forward pass of training: (rows, classes), a row for each example or token of the loss, no padding.

        A task with this may learn from the dense twin (`distill` in a matrix), and its `train` gives each loss to
        `run.distilled`. output: what the model returned for `inputs` and `keywords`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no logits()")

    def example_inputs(self, spec: Spec) -> tuple[Any, ...]:
        """Positional inputs of one forward pass with batch size 1, for cost and latency."""
        raise NotImplementedError(f"{type(self).__name__} has no example_inputs()")

    def diagnosis(self) -> Iterable[Diagnosis]:
        """What `nmbench doctor` should say of this task's engine: its version, say, and whether parts of it work.

        It is asked where requirements are missing too, in a process of its own.
        """
        return ()
