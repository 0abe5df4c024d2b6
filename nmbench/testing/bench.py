"""Trains a task's cells at one scale inside this process, for the checks that look at what training does."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nmbench._util import random as rng
from nmbench.contract.distillation import Distillation
from nmbench.contract.run import Run
from nmbench.contract.spec import DataInfo, Spec
from nmbench.contract.task import Task
from nmbench.worker.distillation import Teacher
from nmbench.worker.tracing import trace_batches

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nmbench.sparsity import Handle, LayerInfo

PATTERN, METHOD = "2:4", "sr-ste"
Report = TypeVar("Report")


class Stopped(BaseException):
    """Training was stopped on purpose; no task may catch it."""


@dataclass(frozen=True)
class Result:
    """What a training came to, as texts: equal trainings have equal ones, in whatever process they ran."""

    weights: str
    batches: str
    metrics: str


@dataclass
class Trained:
    """One training, finalised. `batches` has a checksum of the inputs of every training forward pass."""

    task: Task
    spec: Spec
    model: nn.Module
    handle: Handle
    run: Run
    init: str
    batches: list[str]
    optimizer_steps: int
    cpu_s: float

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Of the evaluation that the first look at them makes."""
        return dict(self.task.evaluate(self.model, self.run))

    @property
    def result(self) -> Result:
        """What this training came to."""
        return Result(digest(weights(self.model)), " ".join(self.batches), str(sorted(self.metrics.items())))


class _Watched(Run):
    """A run that can be stopped after `stop_after` steps, with a resume point asked for `save_after` steps."""

    stop_after = save_after = -1
    resumed_at = 0

    def checkpoint_due(self, every_s: float = 60.0) -> bool:
        return self.updates == self.save_after

    def load_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        extra = super().load_checkpoint(model, optimizer)
        self.resumed_at = self.updates
        return extra

    def step(self, loss: Any, lr: float = float("nan"), total: int | None = None) -> None:
        super().step(loss, lr, total)
        if self.updates == self.stop_after:
            raise Stopped


class Bench:
    """Cells of `task` (its default model) at `scale`, on the CPU, with `folder` for data and resume state.

    `in_process`: no check may start a process of its own.
    """

    def __init__(self, task: Task, folder: Path, scale: str = "smoke", in_process: bool = False) -> None:
        self.task, self.folder, self.scale, self.in_process = task, folder, scale, in_process
        self.model = dict(task.default_models).get(scale, task.models[0])
        self._kept: dict[Any, Trained] = {}
        self._remembered: dict[type, object] = {}
        self._data: DataInfo | None = None
        self._runs = 0

    def spec(self, seed: int = 0, **train: Any) -> Spec:
        """The cell's specification, with `train` over the scale's settings."""
        settings: Mapping[str, Any] = {**self.task.scales[self.scale], **train}
        return Spec(self.task.name, self.model, self.scale, seed, settings, "cpu")

    @property
    def data_root(self) -> Path:
        """Where `prepare` writes."""
        return self.folder / "data"

    def data(self) -> DataInfo:
        """The prepared data, made on the first call."""
        if self._data is None:
            self._data = self.task.prepare(self.spec(), self.data_root)
        return self._data

    def build(self, spec: Spec) -> nn.Module:
        """The model as the worker builds it."""
        rng.seed_all(spec.seed, "init")
        return self.task.build(spec)

    def layers(self, model: nn.Module) -> list[str]:
        """Names of the weights that the worker would sparsify."""
        from nmbench.sparsity import default_candidates

        names = self.task.candidates(model)
        return list(default_candidates(model)) if names is None else list(names)

    def candidates(self, model: nn.Module) -> list[LayerInfo]:
        """What would become sparse in `model`, and why the rest would not."""
        from nmbench.sparsity import NMPattern
        from nmbench.sparsity.select import choose, find_weights

        return choose(find_weights(model), NMPattern.parse(PATTERN), self.layers(model))

    def sparse(self, model: nn.Module, pattern: str, method: str) -> Handle:
        """`model` sparsified as the worker does it."""
        from nmbench.sparsity import sparsify

        return sparsify(model, PATTERN if pattern == "dense" else pattern, method, layers=self.layers(model))

    def trained(self, pattern: str = PATTERN, method: str = METHOD, seed: int = 0, again: int = 0) -> Trained:
        """That cell, trained to the end and finalised; kept. Another `again` trains it once more."""
        key = (pattern, method, seed, again)
        if key not in self._kept:
            done = self._train(pattern, method, seed, self._work())
            done.handle.finalize()
            self._kept[key] = done
        return self._kept[key]

    def forget(self) -> None:
        """Let go of every training."""
        self._kept.clear()

    def remember(self, kind: type[Report], find: Callable[[], Report]) -> Report:
        """The `kind` that `find()` returned the first time; an exception is raised again each time."""
        if kind not in self._remembered:
            try:
                self._remembered[kind] = find()
            except Exception as error:
                self._remembered[kind] = error
        report = self._remembered[kind]
        if isinstance(report, Exception):
            raise report
        assert isinstance(report, kind)
        return report

    def resumed(self, stop_after: int, save_after: int) -> tuple[Trained | None, int]:
        """A sparse cell that was stopped, then trained to its end by a fresh model; and the step it went on from.

        None if training ended before `stop_after`.
        """
        work = self._work()
        try:
            self._train(PATTERN, METHOD, 0, work, stop_after=stop_after, save_after=save_after)
            return None, 0
        except Stopped:
            pass
        done = self._train(PATTERN, METHOD, 0, work)
        done.handle.finalize()
        assert isinstance(done.run, _Watched)
        return done, done.run.resumed_at

    def taught(self, steps: int) -> Teacher:
        """What taught a sparse cell, stopped after so many steps: its own dense model with its initial weights."""
        teacher = Teacher(self.task, self.build(self.spec()), Distillation())
        with contextlib.suppress(Stopped):
            self._train(PATTERN, METHOD, 0, self._work(), teacher, stop_after=steps)
        return teacher

    def _work(self) -> Path:
        self._runs += 1
        return self.folder / "work" / str(self._runs)

    def _train(
        self, pattern: str, method: str, seed: int, work: Path, teacher: Teacher | None = None, **watch: int
    ) -> Trained:
        spec, data = self.spec(seed), self.data()
        model = self.build(spec)
        init = digest(weights(model))
        handle = self.sparse(model, pattern, method)
        run = _Watched(spec, data, handle, work, teacher=teacher)
        if teacher is not None:
            teacher.teach(model)
        for name, value in watch.items():
            setattr(run, name, value)
        batches, steps = work / "batches.txt", [0]
        tracer = trace_batches(model, batches)
        counter = _count_steps(model, steps)
        begun = time.process_time()
        try:
            self.task.train(model, run)
        finally:
            counter()
            tracer.remove()
        seen = batches.read_text().split() if batches.exists() else []
        return Trained(self.task, spec, model, handle, run, init, seen, steps[0], time.process_time() - begun)


def _count_steps(model: nn.Module, steps: list[int]) -> Callable[[], None]:
    """Count the steps of every optimizer that holds a parameter of `model`, bound or not; returns how to stop."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    mine = {id(parameter) for parameter in model.parameters()}

    def hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(id(parameter) in mine for group in optimizer.param_groups for parameter in group["params"]):
            steps[0] += 1

    return register_optimizer_step_post_hook(hook).remove


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer of `model`, copied."""
    return {
        name: value.detach().cpu().clone() for name, value in model.state_dict().items() if hasattr(value, "detach")
    }


def digest(values: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, shapes and bits."""
    import torch

    total = hashlib.sha256()
    for name in sorted(values):
        value = values[name].contiguous()
        total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return total.hexdigest()


def generators() -> dict[str, object]:
    """The state of each global random generator."""
    import numpy as np
    import torch

    numbers = np.random.get_state(legacy=False)
    return {
        "random": random.getstate(),
        "numpy": (repr(numbers), numbers["state"]["key"].tobytes()),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def drawn(before: Mapping[str, object]) -> list[str]:
    """Those that moved since `generators()` gave `before`."""
    return [name for name, state in generators().items() if state != before[name]]
