"""Distillation from the dense twin: its logits on what the model is trained with, and the loss that comes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.contract.distillation import Distillation
from nmbench.contract.run import InvalidResult, Run
from nmbench.contract.spec import DataError
from nmbench.contract.task import Task
from nmbench.plan.cell import Cell
from nmbench.records.schema import Taught
from nmbench.worker.training import NotReusable, adopt


def divergence(own: Tensor, twin: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over rows of KL(softmax(twin / T) || softmax(own / T)), in nats. Both: (rows, classes)."""
    logs = [(logits.float() / temperature).log_softmax(1) for logits in (own, twin)]
    return nn.functional.kl_div(logs[0], logs[1], reduction="batchmean", log_target=True) * temperature**2


class Teacher:
    """A model that teaches another, which calls it on the inputs of each training forward pass.

    Calling it mixes the divergence of the last of these into a loss; uses: how often that was done.
    """

    def __init__(self, task: Task, model: nn.Module, settings: Distillation) -> None:
        self.task, self.model, self.settings = task, model.eval().requires_grad_(False), settings
        self.uses = 0
        self._divergence: Tensor | None = None
        self._hook: torch.utils.hooks.RemovableHandle | None = None

    @classmethod
    def of(cls, task: Task, model: nn.Module, cell: Cell, attempt: Path | None, data: str) -> tuple[Teacher, Taught]:
        """The dense twin of `cell`, from its attempt's folder, in a copy of the dense `model`; and what a record says.

        data: fingerprint of those that the cell sees. Raises DataError where the twin's weights cannot be had.
        """
        model, settings = copy.deepcopy(model), Distillation(**cell.distill)
        try:
            if attempt is None:
                raise NotReusable("there is no result of this code with its weights")
            record = adopt(model, attempt, data)
        except NotReusable as error:
            raise DataError(f"distill: no dense twin to learn from: {error}; run cell {cell.twin.id} first") from error
        return cls(task, model, settings), Taught(cell_id=record.cell_id, attempt=record.attempt)

    def teach(self, student: nn.Module) -> None:
        """From now on `student` is watched."""
        if self._hook is None:
            self._hook = student.register_forward_hook(self._seen, with_kwargs=True)

    def end(self, run: Run) -> None:
        """The training is over. Raises InvalidResult if `run` made steps in this process, none of which was taught."""
        if self._hook is not None:
            self._hook.remove()
        if run.intervals and not self.uses:
            raise InvalidResult("train() never gave its loss to run.distilled(), so nothing was learnt from the twin")

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())

    def _seen(self, student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not (student.training and torch.is_grad_enabled()):
            return
        with torch.no_grad():
            taught = self.model(*args, **kwargs)
        own, twin = (self.task.logits(given, args, kwargs) for given in (output, taught))
        self._divergence = divergence(own, twin, self.settings.temperature)

    def __call__(self, loss: Tensor, size: float) -> Tensor:
        """(1 - weight) loss + weight size divergence. size: examples or tokens that `loss` is the sum of."""
        if self._divergence is None:
            raise RuntimeError("run.distilled(): the model was not called since the last loss")
        mixed = (1 - self.settings.weight) * loss + self.settings.weight * size * self._divergence
        self._divergence = None
        self.uses += 1
        return mixed
