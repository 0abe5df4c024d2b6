"""The training passes of a cell: kept from an interrupted attempt, taken from the dense twin, or trained."""

from __future__ import annotations

import importlib.metadata
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench.contract.resume import read_state, write_state
from nmbench.contract.run import Run
from nmbench.contract.spec import DataError, DataInfo, Spec
from nmbench.contract.task import Task
from nmbench.plan.cell import InitialWeights
from nmbench.records import weights
from nmbench.records.attempt import RECORD, WEIGHTS, read_record
from nmbench.records.schema import Record, UnreadableRecord

if TYPE_CHECKING:
    from torch import nn

    from nmbench.sparsity.methods.base import Method

_log = logging.getLogger("nmbench.worker")


class NotReusable(Exception):
    """The twin's training cannot stand for one here; the text says why."""


def load_init(model: nn.Module, init: InitialWeights, path: Path | None) -> None:
    """Initial weights from the file `path`, if they are those that the cell is named by. Raises DataError."""
    from safetensors import SafetensorError

    try:
        if path is None or InitialWeights.read(path) != init:
            raise DataError(f"init: {init.file} is not the file that was planned with; run again to take it as it is")
        weights.load(model, path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"init: {init.file} cannot be read as safetensors ({error})") from error
    except RuntimeError as error:
        second = [line.strip() for line in str(error).splitlines()][1:2]
        raise DataError(f"init: {init.file} does not fit this model: {' '.join(second)}") from error


#: of a cell whose model is neither trained nor evaluated
NO_DATA = DataInfo(Path(), {}, "untrained", ("Untrained: its weights are random, so that it has no quality.",))


def is_untrained(spec: Spec) -> bool:
    """Does the setting `untrained` say so, where the task declares one?"""
    return bool(spec.train.get("untrained"))


class Untrained(Task):
    """A training that does nothing."""

    def train(self, model: nn.Module, run: Run) -> None:
        """The model stays as it is."""


def train(
    task: Task, model: nn.Module, begin: Callable[[int], Run], method: Method, work: Path, twin: Record | None
) -> list[Run]:
    """All passes. A finished one is kept in the folder `work`, so that a resumed attempt skips it.

    begin: makes the run of a pass. twin: record of the dense twin, whose weights `model` has already: its training is
    the first pass.
    """
    runs = []
    for phase in range(method.phases):
        done = work / f"phase-{phase}.pt"
        run = begin(phase)
        runs.append(run)
        if (state := read_state(done)) is not None:
            model.load_state_dict(state["model"])
            run.load_state_dict(state["run"])
            continue
        if phase == 0 and twin is not None:
            run.adopt(steps(twin), _seconds(twin))
        else:
            task.train(model, run)
            run.finish()
            if phase == 0 and method.starts_dense:
                run.forget_flips()  # whether the twin could stand for this pass must not show in the record
        if phase + 1 < method.phases and run.rank == 0:
            try:
                write_state(done, {"model": model.state_dict(), "run": run.state_dict()})
            except OSError as error:
                _log.warning("the pass is not kept for a resumed attempt: %s", error)
    return runs


def adopt(model: nn.Module, attempt: Path, fingerprint: str) -> Record:
    """Load the weights of the twin's attempt in the folder `attempt` into `model`; its record.

    fingerprint: of the data that this cell sees. Raises NotReusable, and leaves the model as it was, if the twin saw
    other data, ran on another torch, counted no steps, or its files cannot be read.
    """
    from safetensors import SafetensorError

    try:
        record = read_record(attempt / RECORD)
    except UnreadableRecord as error:
        raise NotReusable(f"the record of the dense twin cannot be read ({error})") from error
    if record.data is None or record.data.fingerprint != fingerprint:
        raise NotReusable("the dense twin saw other data")
    if record.environment is None or record.environment.torch != importlib.metadata.version("torch"):
        raise NotReusable("the dense twin ran on another version of torch")
    if not steps(record):
        raise NotReusable("the record of the dense twin has no steps")
    try:
        weights.load(model, attempt / WEIGHTS, record.weights_sha256)
    except (OSError, SafetensorError) as error:
        raise NotReusable(f"the weights of the dense twin cannot be read ({error})") from error
    return record


def steps(record: Record) -> list[tuple[float, float]]:
    """(loss, learning rate) of each optimizer step; within a bin of the record's curve they are all the same."""
    if record.curve is None:
        return []
    nan = float("nan")
    curve = record.curve
    bins = zip(itertools.pairwise([0, *curve.step]), curve.loss, curve.lr, strict=True)
    return [
        (nan if loss is None else loss, nan if lr is None else lr)
        for (start, stop), loss, lr in bins
        for _ in range(stop - start)
    ]


def _seconds(record: Record) -> float:
    return (record.timings and record.timings.train_total_s) or 0.0
