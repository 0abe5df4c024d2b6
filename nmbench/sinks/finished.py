"""One ended attempt, flat: what every sink can show."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nmbench.plan.cell import Cell
from nmbench.records.columns import COLUMNS
from nmbench.records.schema import Record

Value = str | int | float
#: (optimizer step over all training passes, value), steps rising
Series = list[tuple[int, float]]

_COST = ("parameters", "nonzeros", "macs_dense", "macs_effective", "bytes_dense", "bytes_compressed", "training_passes")
_TIMES = ("train_s", "evaluate_s", "total_s", "step_ms_median", "steps")
#: columns of the frame that are tags of the same name
_TAGS = ("status", "cell_id", "attempt", "matrix", "command", "python", "cpu", "gpu", "commit", "dirty", "torch")


@dataclass(frozen=True)
class Finished:
    """One ended attempt.

    Attributes:
        run_id: the same for the same attempt, different for another; ASCII letters, digits and dashes.
        name: for people: task, model, pattern, method, settings, seed.
        matrix: name of the folder of the matrix' results.
        folder: where the attempt lies below it: task/cell/attempt.
        status: how it ended, a nmbench.records.schema.Status. `ok` is the only good one.
        params: what was asked for. `train.*` are the engine's settings, `hyper.*` the method's own.
        metrics: what came out, finite numbers only: the task's metrics by their own names, then `density`, `sad.*`,
            `cost.*`, `time.*`, `memory.*` and `measurement.*`.
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


def finished(record: Record, matrix: str, folder: str) -> Finished:
    """A record in the folder `folder` of a matrix' results, flat; parts that it does not have are left out."""
    curve, sad = record.curve, record.sad
    series = {
        "train/loss": _series(curve.step, curve.loss) if curve else [],
        "train/lr": _series(curve.step, curve.lr) if curve else [],
        "sad/flips_per_step": _per_step(_series(sad.step, sad.flips)) if sad else [],
    }
    safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in matrix)
    return Finished(
        run_id=f"{safe}-{record.cell_id}-{record.attempt}",
        name=record.cell.label,
        matrix=matrix,
        folder=folder,
        status=str(record.status),
        params=_params(record.cell),
        metrics=_metrics(record),
        series={name: points for name, points in series.items() if points},
        tags=_tags(record),
    )


def _params(cell: Cell) -> dict[str, Value]:
    plain: dict[str, Value] = {
        **{"task": cell.task, "model": cell.model, "scale": cell.scale},
        **{"pattern": cell.pattern_text, "method": cell.method, "seed": cell.seed},
    }
    for group, settings in (("train", cell.train), ("hyper", cell.hyper), ("distill", cell.distill)):
        for name, value in settings.items():
            plain[f"{group}.{name}"] = value if isinstance(value, str | int | float) else json.dumps(value)
    return plain


def _metrics(record: Record) -> dict[str, float]:
    values: dict[str, float | None] = dict(record.metrics)
    values["density"] = record.audit.density if record.audit else None
    if record.sad is not None and record.sad.weights:
        values |= {"sad.total": record.sad.total, "sad.per_weight": record.sad.per_weight}
    values |= _some("cost", record.cost, _COST) | _some("time", record.timings, _TIMES)
    values |= _some("memory", record.memory, ("peak_rss_bytes", "peak_gpu_bytes"))
    values |= {f"measurement.{one.name}": one.value for one in record.measurements}
    return {name: float(value) for name, value in values.items() if value is not None}


def _some(group: str, section: object, wanted: Iterable[str]) -> dict[str, float | None]:
    return {f"{group}.{name}": getattr(section, name, None) for name in wanted}


def _tags(record: Record) -> dict[str, str]:
    values = {name: COLUMNS[name].of(record) for name in _TAGS}
    values |= {"data": COLUMNS["data_fingerprint"].of(record), "error": COLUMNS["error_message"].of(record)}
    return {name: str(value) for name, value in values.items() if value is not None}


def _series(steps: Sequence[int], values: Sequence[float | None]) -> Series:
    """Steps that begin again in a second training pass go on where the first one ended."""
    points: Series = []
    offset = before = 0
    for step, value in zip(steps, values, strict=False):
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
