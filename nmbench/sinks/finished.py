"""One ended attempt, flat: what every sink can show.

Finished    parameters, metrics, series and tags of an attempt
finished    a record -> Finished
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nmbench.plan.cell import Cell
from nmbench.records.schema import Record

__all__ = ["Finished", "Series", "Value", "finished"]

Value = str | int | float
#: (optimizer step over all training passes, value), steps rising
Series = list[tuple[int, float]]

_COST = ("parameters", "nonzeros", "macs_dense", "macs_effective", "bytes_dense", "bytes_compressed", "training_passes")
_TIMES = ("train_s", "evaluate_s", "total_s", "step_ms_median", "steps")


@dataclass(frozen=True)
class Finished:
    """One ended attempt.

    Attributes:
        run_id: the same for the same attempt, different for another; letters, digits and dashes.
        name: for people: task, model, pattern, method, settings, seed.
        matrix: the matrix that ran it.
        folder: where it lies below the matrix' results: task/cell/attempt.
        status: how it ended; see nmbench.records.schema.STATUSES. `ok` is the only good one.
        params: what was asked for. `train.*` are the engine's settings, `hyper.*` the method's own.
        metrics: what came out, finite numbers only: the task's metrics by their own names, then `density`, `sad.*`,
            `cost.*`, `time.*` and `memory.*`.
        series: over training: `train/loss`, `train/lr`, `sad/flips_per_step`.
        tags: status, cell_id, attempt, matrix, versions, hardware, and on failure the error.
    """

    run_id: str
    name: str
    matrix: str
    folder: str
    status: str
    params: Mapping[str, Value]
    metrics: Mapping[str, float]
    series: Mapping[str, Series]
    tags: Mapping[str, str]


def finished(record: Record) -> Finished:
    """A readable record of the current schema; parts that it does not have are left out."""
    cell = Cell.from_dict(record["cell"])
    matrix, attempt = str(record.get("matrix") or "unnamed"), record.get("attempt") or 1
    curve, sad = record.get("curve") or {}, record.get("sad") or {}
    series = {
        "train/loss": _series(curve.get("step"), curve.get("loss")),
        "train/lr": _series(curve.get("step"), curve.get("lr")),
        "sad/flips_per_step": _per_step(_series(sad.get("step"), sad.get("flips"))),
    }
    return Finished(
        run_id=f"{''.join(c if c.isalnum() else '-' for c in matrix)}-{record['cell_id']}-{attempt}",
        name=cell.label,
        matrix=matrix,
        folder=f"{cell.folder}/attempt-{attempt}",
        status=record["status"],
        params=_params(cell),
        metrics=_metrics(record),
        series={name: points for name, points in series.items() if points},
        tags=_tags(record),
    )


def _params(cell: Cell) -> dict[str, Value]:
    plain: dict[str, Value] = {
        **{"task": cell.task, "model": cell.model, "scale": cell.scale},
        **{"pattern": cell.pattern_text, "method": cell.method, "seed": cell.seed},
    }
    for group, settings in (("train", cell.train), ("hyper", cell.hyper)):
        for name, value in settings.items():
            plain[f"{group}.{name}"] = value if isinstance(value, str | int | float) else json.dumps(value)
    return plain


def _metrics(record: Record) -> dict[str, float]:
    sad, audit = record.get("sad") or {}, record.get("audit") or {}
    found: dict[str, object] = dict(record.get("metrics") or {})
    found["density"] = audit.get("density")
    if sad.get("weights"):
        found |= {"sad.total": sad.get("total"), "sad.per_weight": (sad.get("total") or 0) / sad["weights"]}
    found |= _some("cost", record.get("cost"), _COST) | _some("time", record.get("timings"), _TIMES)
    found |= _some("memory", record.get("memory"), ("peak_rss_bytes", "peak_gpu_bytes"))
    return {name: float(value) for name, value in found.items() if _finite(value)}  # type: ignore[arg-type]


def _some(group: str, values: Mapping[str, object] | None, wanted: Iterable[str]) -> dict[str, object]:
    return {f"{group}.{name}": (values or {}).get(name) for name in wanted}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _tags(record: Record) -> dict[str, str]:
    environment, error = record.get("environment") or {}, record.get("error") or {}
    found = {name: record.get(name) for name in ("status", "cell_id", "attempt", "matrix", "command")}
    found |= {name: environment.get(name) for name in ("python", "cpu", "gpu", "commit", "dirty")}
    found["torch"] = (environment.get("versions") or {}).get("torch")
    found |= {"data": (record.get("data") or {}).get("fingerprint"), "error": error.get("message")}
    return {name: str(value) for name, value in found.items() if value is not None}


def _series(steps: Sequence[int] | None, values: Sequence[float | None] | None) -> Series:
    """Steps that begin again in a second training pass go on where the first one ended."""
    if not steps or not values or len(steps) != len(values):
        return []
    points: Series = []
    offset = before = 0
    for step, value in zip(steps, values, strict=True):
        if step <= before:
            offset += before
        before = step
        if value is not None and math.isfinite(value):
            points.append((offset + step, float(value)))
    return points


def _per_step(flips: Series) -> Series:
    """An entry is the sum of the steps since the one before it."""
    starts = [0, *(step for step, _ in flips)]
    return [(step, value / (step - start)) for (step, value), start in zip(flips, starts, strict=False)]
