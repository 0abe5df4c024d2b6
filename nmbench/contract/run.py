"""What the worker hands to `Task.train` and `Task.evaluate`: the step callback, random streams, checkpoints.

Run.bind(optimizer)      the N:M method's gradient term and mask refresh join the optimizer's own step
Run.distilled(loss)      where the cell learns from its dense twin, its divergence from it is mixed into the loss
Run.step(loss=, lr=)     once an optimizer step: curve, heartbeat, NaN check, global generators for the next update
Run.save_checkpoint / load_checkpoint     resume state, in the work folder (never in the results)
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmbench._util import random as rng
from nmbench.contract import samples
from nmbench.contract.resume import read_state, write_state
from nmbench.contract.samples import Sample, Shown
from nmbench.contract.spec import DataInfo, NonFiniteError, Spec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from nmbench.sparsity import Handle

_log = logging.getLogger("nmbench.run")


class InvalidResult(Exception):
    """The cell ended, but its result breaks a promise; it ends with status `invalid`."""


def finite(value: Any, what: str) -> float:
    """A plain number, of whatever type it came. Raises InvalidResult, naming `what`, if it is none or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidResult(f"{what} is {str(value)[:60]!r}, not a number") from None
    if not math.isfinite(number):
        raise InvalidResult(f"{what} is {number}")
    return number


class Run:
    """One attempt at training one cell, seen from the task.

    Attributes:
        spec: model, scale, settings, seed.
        data: what `prepare` returned.
        device: torch device text, "cpu" or "cuda".
        phase: index of the training pass (ASP trains the full schedule twice: 0, then 1).
        checkpoint_dir: folder of this phase for resume state; exists.
        updates: optimizer steps done in this phase.
        rank, ranks: place of this process among those that train the cell together, and their number. It is that of
            the setting `gpus`, where the task declares one; the environment is then as `torchrun` sets it.
    """

    def __init__(
        self,
        spec: Spec,
        data: DataInfo,
        handle: Handle | None,
        work_dir: Path,
        phase: int = 0,
        beat: Callable[..., None] | None = None,
        rank: int = 0,
        ranks: int = 1,
        teacher: Callable[[Tensor, float], Tensor] | None = None,
    ) -> None:
        self.spec = spec
        self.data = data
        self.device = spec.device
        self.phase = phase
        self.updates = 0
        self.rank, self.ranks = rank, ranks
        self.curve: list[tuple[float, float]] = []
        self.per_example: dict[str, list[float]] = {}
        self.texts: dict[str, list[str]] = {}
        self.samples: list[Sample] = []
        self.baselines: dict[str, dict[str, float]] = {}
        self.facts: dict[str, str | int | float] = {}
        self.notes: list[str] = []
        self.method_bytes = 0
        self.checkpoint_dir = work_dir / f"phase-{phase}"
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        self._handle = handle
        self._teacher = teacher
        self._beat = beat or (lambda **_: None)
        self._last_save = time.monotonic()
        self.intervals: list[float] = []
        self._elapsed_before = 0.0
        self._begun = self._last_step = time.perf_counter()
        self._ended: float | None = None
        self.reseed()

    def reseed(self) -> None:
        """Set the global generators from (seed, update), for each rank its own, whatever was drawn before.

        `step` does it. An engine calls it when its set-up has drawn: what follows must not depend on that.
        """
        rng.seed_all(self.spec.seed, "update", self.updates, *([self.rank] if self.rank else []))

    # -- randomness ---------------------------------------------------------------------------------------------
    def rng(self, epoch: int, index: int | str = "order") -> np.random.Generator:
        """A generator that depends on (seed, epoch, index) only; for the data order and for augmentation."""
        return rng.generator(self.spec.seed, epoch, index)

    def stream(self, epoch: int, index: int | str) -> int:
        """The same stream as a 63-bit integer, for `torch.manual_seed` in a data-loading worker."""
        return rng.stream(self.spec.seed, epoch, index)

    # -- training -----------------------------------------------------------------------------------------------
    def bind(self, optimizer: torch.optim.Optimizer) -> None:
        """Join the N:M method to the optimizer that really steps (not to a wrapper around it)."""
        if self._handle is not None:
            self._handle.bind(optimizer)
            if hasattr(optimizer, "register_step_pre_hook"):  # wrappers may have none
                optimizer.register_step_pre_hook(self._weigh)

    def _weigh(self, *_: Any) -> None:
        """Right before an update, when the method has prepared it: after 0, 1, 3, 7, ... of them."""
        from nmbench.sparsity.footprint import method_bytes

        if self._handle is not None and self.updates & (self.updates + 1) == 0:
            self.method_bytes = max(self.method_bytes, method_bytes(self._handle))

    def step(self, loss: float | Tensor, lr: float = math.nan, total: int | None = None) -> None:
        """Call once after each optimizer step. `loss` is the mean training loss of that step.

        `total` is the number of steps of this phase, for the progress display and for methods whose settings are shares
        of training.
        Raises NonFiniteError if the loss is NaN or infinite.
        """
        value = float(loss)
        now = time.perf_counter()
        self.intervals.append(now - self._last_step)
        self._last_step = now
        self.updates += 1
        if not math.isfinite(value):
            raise NonFiniteError(f"the training loss is {value} at step {self.updates} of phase {self.phase}")
        self.curve.append((value, float(lr)))
        if self._handle is not None:
            self._handle.observe(value, total)
        if self._handle is not None and self.updates & (self.updates - 1) == 0:
            self._handle.snapshot()  # after 1, 2, 4, 8, ... steps: dense where much moves, few in all
        self.reseed()
        self._beat(phase=self.phase, step=self.updates, total=total, loss=value)

    def distilled(self, loss: Tensor, size: float = 1) -> Tensor:
        """The loss to take the gradient of: `loss`, or where the cell learns from its dense twin, that mixed in.

        loss: of the model's last forward pass; the sum over `size` examples or tokens, or their mean (1).
        """
        return loss if self._teacher is None else self._teacher(loss, size)

    @property
    def elapsed(self) -> float:
        """Seconds of training in this phase, those of an interrupted attempt up to its checkpoint included."""
        end = time.perf_counter() if self._ended is None else self._ended
        return self._elapsed_before + end - self._begun

    def finish(self) -> None:
        """The phase is over: `elapsed` stands still. Called by the worker."""
        self._ended = time.perf_counter()

    def alive(self) -> None:
        """Say that a long part without optimizer steps (evaluation, say) is still going on."""
        self._beat()

    # -- evaluation ---------------------------------------------------------------------------------------------
    def store_per_example(self, name: str, values: list[float]) -> None:
        """Keep one value per evaluation example, in data-set order, for paired statistics. Raises InvalidResult."""
        self.per_example[name] = [round(finite(value, f"a value of {name!r}"), 6) for value in values]

    def store_texts(self, name: str, values: Sequence[str]) -> None:
        """Keep one text per evaluation example, in data-set order: hypotheses, references."""
        self.texts[name] = [str(v) for v in values]

    def store_sample(self, name: str, given: Mapping[str, Shown], output: Mapping[str, Shown]) -> None:
        """Keep one evaluation example for the report to show, dense beside sparse; a handful is plenty.

        `name` tells the sample in every cell of the task; `given` is what all cells share (source, reference, input
        image), `output` what this model made of it. A value is a text, or an image: uint8, (height, width, 3).
        """
        try:
            self.samples.append(samples.checked(name, given, output))
        except (ValueError, TypeError) as error:  # a tensor on a GPU is no array
            raise InvalidResult(str(error)) from None

    def store_baseline(self, name: str, **values: float) -> None:
        """What a trivial answer reaches, for scale: `store_baseline("zero flow", epe=8.8)`."""
        self.baselines[name] = {metric: finite(value, f"the baseline {name!r}") for metric, value in values.items()}

    def store_fact(self, name: str, value: str | int | float) -> None:
        """Something about how this cell was trained or evaluated that the report should state, such as a signature."""
        plain = value.item() if hasattr(value, "item") else value  # of numpy or torch
        self.facts[name] = plain if isinstance(plain, str | int) else finite(plain, f"the fact {name!r}")

    def note(self, text: str) -> None:
        """A sentence for the record and the report: something that a reader of this cell has to know."""
        if text not in self.notes:
            self.notes.append(text)

    # -- resume -------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Everything of this run that a resumed one needs, the method's state included."""
        return {
            "updates": self.updates,
            "curve": [list(c) for c in self.curve],
            "elapsed": self.elapsed,
            "handle": None if self._handle is None else self._handle.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken. Load the model's weights before this, not after."""
        self.updates = int(state["updates"])
        self.curve = [(float(a), float(b)) for a, b in state["curve"]]
        self._elapsed_before = float(state["elapsed"])
        self._begun = self._last_step = time.perf_counter()
        if self._handle is not None:
            self._handle.load_state_dict(state["handle"])
        self.reseed()

    def adopt(self, curve: Sequence[tuple[float, float]], elapsed: float) -> None:
        """This phase was trained elsewhere: (loss, learning rate) of each step, and the seconds that it took.

        Load the weights that it gave before this. Called by the worker.
        """
        self.updates, self.curve = len(curve), list(curve)
        self._elapsed_before, self._ended = elapsed, self._begun
        if self._handle is not None:
            self._handle.adopt(len(curve))

    def forget_flips(self) -> None:
        """The flips of this phase are not to count. Called by the worker."""
        if self._handle is not None:
            self._handle.forget()

    def checkpoint_due(self, every_s: float = 60.0) -> bool:
        """True once `every_s` seconds have passed since the last checkpoint."""
        return time.monotonic() - self._last_save >= every_s

    def save_checkpoint(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, **extra: Any) -> None:
        """Write a resume point: weights, optimizer, this run, and `extra` (plain values and tensors only).

        The file appears whole or not at all: a temporary name, fsync, rename. Only rank 0 writes. Where it cannot be
        written (a full disk) training goes on without it.
        """
        self._last_save = time.monotonic()
        if self.rank:
            return
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "run": self.state_dict(),
            "extra": extra,
        }
        try:
            write_state(self.checkpoint_dir / "last.pt", state)
        except OSError as error:
            _log.warning("no checkpoint: %s", error)

    def load_checkpoint(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Restore the last resume point of this phase and return its `extra`; None if there is none.

        A checkpoint that cannot be read (a torn disk, another version) is put aside and training starts again.
        """
        state = read_state(self.checkpoint_dir / "last.pt")
        if state is None:
            return None
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        self.load_state_dict(state["run"])
        extra: dict[str, Any] = state["extra"]
        return extra
