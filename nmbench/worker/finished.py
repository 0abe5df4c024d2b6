"""The model that a finished cell left, or a stranger's of the same task: built, its weights loaded."""

from pathlib import Path
from typing import Any

from torch import nn

from nmbench._util.errors import message
from nmbench.contract.spec import DataError
from nmbench.plan.describe import load_task, spec_of
from nmbench.records import weights
from nmbench.running.job import Job
from nmbench.worker.training import is_untrained


def finished(
    job: Job, file: Path, sha256: str | None = None, *, pickled: bool = False
) -> tuple[nn.Module, tuple[Any, ...]]:
    """(model of the job's cell with the weights in `file`, inputs of one forward pass with batch size 1), on the CPU.

    Data that are not there are missed only where the task cannot build its model without them. sha256, pickled: as in
    `nmbench.records.weights.load`.

    Raises DataError; ValueError if the weights do not fit; and whatever the task raises, or reading the file.
    """
    task = load_task(job.reference)
    spec = spec_of(job.cell, task, job.device)
    try:
        if not is_untrained(spec):
            task.prepare(spec, job.data_dir)
        model = task.build(spec)
    except DataError as lacking:
        try:
            model = task.build(spec)
        except Exception:
            raise lacking from None
    try:
        weights.load(model, file, sha256, pickled=pickled)
    except RuntimeError as error:
        lines = message(error).strip().splitlines()
        name = f"{spec.task}/{spec.model} at scale {spec.scale}"
        raise ValueError(f"{file.name} does not fit {name}: {lines[min(1, len(lines) - 1)].strip()[:300]}") from error
    return model, task.example_inputs(spec)
