"""One record becomes one flat row of the frame.

COLUMNS      every fixed column with its pandas dtype (nmbench.records.columns)
flatten      record -> row; raises UnreadableRecord if a value is not of the kind that the schema promises
canonical    JSON text in canonical form: equal settings give equal text
"""

from __future__ import annotations

from typing import Any

from nmbench.records.columns import COLUMNS
from nmbench.records.fields import (
    canonical,
    flag,
    flat_environment,
    integer,
    number,
    section,
    speed_rows,
    text,
)
from nmbench.records.nested import check_nested
from nmbench.records.schema import Record, UnreadableRecord

__all__ = ["COLUMNS", "flatten"]


def flatten(record: Record, path: str) -> dict[str, Any]:
    """The row of one record in the current schema; `path` is that of its attempt folder.

    Raises UnreadableRecord if a section or a value is not of the kind that the schema promises.
    """
    check_nested(record)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row.update(_identity(record), path=path)
    row.update(_quality(record))
    row.update(_numbers(record))
    row.update(_surroundings(record))
    return row


def _identity(record: Record) -> dict[str, Any]:
    cell = section(record, "cell")
    row: dict[str, Any] = {key: text(cell, key) for key in ("task", "model", "scale", "pattern", "method")}
    row["seed"] = integer(cell, "seed")
    if missing := [key for key, value in row.items() if value is None]:
        raise UnreadableRecord(f"the cell has no {', '.join(missing)}")
    row["train"], row["hyper"] = canonical(section(cell, "train")), canonical(section(cell, "hyper"))
    row["init"] = _init(cell)
    row["attempt"] = integer(record, "attempt")
    for key in ("matrix", "cell_id", "status", "command"):
        row[key] = text(record, key)
    if not row["cell_id"]:
        raise UnreadableRecord("the record has no cell_id")
    return row


def _init(cell: dict[str, Any]) -> str:
    """The hash of the weights that it started from: their path may differ, and they be the same."""
    if isinstance(cell.get("init"), dict):
        return (text(cell["init"], "sha256") or "")[:16]
    return text(cell, "init") or ""


def _quality(record: Record) -> dict[str, Any]:
    metrics = section(record, "metrics")
    row: dict[str, Any] = {f"metric.{name}": number(metrics, name) for name in metrics}
    infos = record.get("metric_info") or []
    if infos:
        first = infos[0]
        row["primary_metric"] = text(first, "name")
        row["primary_unit"] = text(first, "unit") or ""
        row["primary_value"] = row.get(f"metric.{row['primary_metric']}")
        row["higher_is_better"] = flag(first, "higher_is_better") is not False
        row["margin"] = number(first, "margin") or 0.0
    return row


def _numbers(record: Record) -> dict[str, Any]:
    sad, cost, timings = (section(record, key) for key in ("sad", "cost", "timings"))
    total, weights = integer(sad, "total"), number(sad, "weights")
    row: dict[str, Any] = {
        "density": number(section(record, "audit"), "density"),
        "sad_pattern": text(sad, "pattern"),
        "sad_total": total,
        "sad_per_weight": total / weights if total is not None and weights else None,
        "training_passes": number(cost, "training_passes"),
        "sad_uncounted": integer(sad, "uncounted"),
        "steps": integer(timings, "steps"),
        "train_s": number(timings, "train_s"),
        "train_total_s": number(timings, "train_total_s"),
        "step_ms_median": number(timings, "step_ms_median"),
        "alone": flag(timings, "alone"),
        "resumed": flag(timings, "resumed"),
    }
    for key in ("macs_dense", "macs_effective", "bytes_dense", "bytes_compressed", "parameters", "nonzeros"):
        row[key] = integer(cost, key)
    for key in ("peak_rss_bytes", "peak_gpu_bytes"):
        row[key] = integer(section(record, "memory"), key)
    return row | _speed(record)


def _speed(record: Record) -> dict[str, Any]:
    """The row of the largest batch that was timed."""
    rows = speed_rows(record)
    if not rows:
        return {}
    largest = max(rows, key=lambda row: integer(row, "batch") or 0)
    found: dict[str, Any] = {"speed_batch": integer(largest, "batch"), "speed_ratio": number(largest, "ratio")}
    return found | {f"speed_{key}": number(largest, key) for key in ("dense_ms", "converted_ms")}


def _surroundings(record: Record) -> dict[str, Any]:
    environment, error = flat_environment(record), section(record, "error")
    row: dict[str, Any] = {key: text(environment, key) for key in ("python", "torch", "cpu", "gpu", "commit")}
    row["dirty"] = flag(environment, "dirty")
    row["data_fingerprint"] = text(section(record, "data"), "fingerprint")
    row["reused"] = text(section(record, "reused"), "cell_id")
    row["error_kind"], row["error_message"] = text(error, "kind"), text(error, "message")
    return row
