"""The child's side of `nmbench run --speed`: load a finished cell's task, data and weights, and measure.

answer     {"speed": section} or {"failed": one line} (nmbench.running.speed_job is the parent's side)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nmbench.plan.cell import Cell
from nmbench.plan.describe import load_task
from nmbench.records import weights
from nmbench.running.speed_job import WEIGHTS, unfinished
from nmbench.worker.cell import spec_of
from nmbench.worker.failures import first_lines, without_home
from nmbench.worker.speed import measure

__all__ = ["answer"]


def answer(job: dict[str, Any], tell: Callable[[dict[str, Any]], None] = lambda told: None) -> dict[str, Any]:
    """{"speed": section} or {"failed": one line}; this runs in the child.

    tell: gets {"speed": section, "unfinished": True} after each batch size, for a parent that waits no longer.
    """
    cell = Cell.from_dict(job["cell"])
    sparse = not cell.is_dense
    so_far: dict[str, Any] = {}

    def section(found: dict[str, Any]) -> dict[str, Any]:
        notes = found["notes"] if sparse else [*found["notes"], "a dense cell has nothing to convert"]
        return {"type": job["device"], **found, "notes": notes}

    def progress(found: dict[str, Any]) -> None:
        so_far["speed"] = section(found)
        tell({**so_far, "unfinished": True})

    try:
        task = load_task(job["reference"])
        spec = spec_of(cell, task, job["device"])
        task.prepare(spec, Path(job["data_dir"]))
        model = task.build(spec)
        weights.load(model, Path(job["attempt_dir"]) / WEIGHTS)
        found = measure(
            model,
            task.example_inputs(spec),
            torch.device(job["device"]),
            budget_s=float(job["budget_s"]),
            limit_s=60.0 + 4.0 * float(job["budget_s"]),
            sparse=sparse,
            progress=progress,
        )
    except Exception as error:
        why = without_home(first_lines(error))
        return unfinished(so_far["speed"], why) if so_far else {"failed": why}
    return {"speed": section(found)}
