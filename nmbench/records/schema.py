"""The record of one attempt: `record.json`, schema version 1. The models here and in `sections` document the format.

`record.json` is written last, by exactly one writer; its existence means that the attempt ended. It holds no host name,
no user name and no absolute path: `nmbench.records.redact` sees to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PrivateAttr

from nmbench._util.files import write_json
from nmbench._util.worded import Worded
from nmbench.plan.cell import Cell
from nmbench.records import redact
from nmbench.records.sections import (
    LIMIT,
    Audit,
    Cost,
    Curve,
    Data,
    Environment,
    Failure,
    LayerAudit,
    LayerFlips,
    Measurement,
    Memory,
    MetricInfo,
    Plugin,
    Reused,
    Sad,
    Section,
    Snapshots,
    Speed,
    SpeedRow,
    Taught,
    Timings,
    Weights,
    about,
)

__all__ = [
    "SCHEMA_VERSION", "Audit", "Cost", "Curve", "Data", "Environment", "Failure", "LayerAudit", "LayerFlips",
    "Measurement", "Memory", "MetricInfo", "Plugin", "Record", "Reused", "Sad", "Snapshots", "Speed", "SpeedRow",
    "Status", "Taught", "Timings", "UnreadableRecord", "Weights",
]  # fmt: skip

SCHEMA_VERSION = 1


class UnreadableRecord(Exception):
    """A record file that cannot be used; the text says why, on one line."""


class Status(Worded):
    """How an attempt ended; its words say when."""

    OK = "ok", "the cell is done; the only good one"
    SKIPPED = "skipped", "asked not to run here (a missing requirement, a GPU-only setting)"
    IMPORT = "import", "the plugin cannot be imported"
    DATA = "data", "data missing or broken"
    OOM = "oom", "out of memory"
    NAN = "nan", "the loss is not finite"
    DIVERGED = "diverged", "finite but hopeless"
    TIMEOUT = "timeout", "it took longer than the matrix allows"
    HANG = "hang", "no heartbeat"
    CRASH = "crash", "the process died (signal, os._exit)"
    ERROR = "error", "any other exception"
    INVALID = "invalid", "it ended, but its result breaks a promise (mask violated, a declared metric missing)"
    INTERRUPTED = "interrupted", "stopped by a signal"

    @property
    def done(self) -> bool:
        """Only `ok` is done."""
        return self is Status.OK

    @property
    def failed(self) -> bool:
        """It ended, and not well."""
        return self is not Status.OK

    @property
    def resumable(self) -> bool:
        """Is the resume state worth keeping? Not where the training itself came to an end, good or bad."""
        return self not in (Status.OK, Status.NAN, Status.DIVERGED, Status.INVALID)


def _cell(value: object) -> Cell:
    """The cell of a record: plain text, an integer seed, tables of settings. Raises ValueError."""
    if isinstance(value, Cell):
        return value
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    kinds = {"task": str, "model": str, "scale": str, "pattern": str, "method": str, "seed": int}
    if missing := [key for key, kind in kinds.items() if type(value.get(key)) is not kind or value[key] == ""]:
        raise ValueError(f"the cell has no {', '.join(missing)}")
    if not abs(value["seed"]) < LIMIT:
        raise ValueError("the seed is no 64-bit integer")
    tables = {key: value.get(key) or {} for key in ("train", "hyper", "init", "distill")}
    if wrong := [key for key, table in tables.items() if not isinstance(table, dict)]:
        raise ValueError(f"its {', '.join(wrong)} is not an object")
    if tables["init"] and not all(
        isinstance(text, str) for text in (tables["init"].get("sha256"), *tables["init"].values())
    ):
        raise ValueError("its init is not a hash and a name")
    if any(tables.values()):
        json.dumps(tables, allow_nan=False)
    return Cell.from_dict({**value, **tables})


class Record(Section):
    """One attempt."""

    schema_version: Literal[1] = Field(1, description="1")
    matrix: str | None = about("name of the matrix that ran the cell")
    cell: Annotated[Cell, BeforeValidator(_cell), PlainSerializer(Cell.to_dict)] = Field(
        description="task, model, scale, train, pattern, method, hyper, seed; where there are, init and distill"
    )
    cell_id: str = Field(pattern="^[0-9a-f]{16}$", description="16 hexadecimal digits, a hash of the scientific fields")
    attempt: Annotated[int, Field(ge=1, lt=LIMIT)] = Field(description="1, 2, ...")
    status: Status = Field(strict=False, description="how the attempt ended")
    plugin: Plugin | None = about("where the task comes from")
    metric_info: list[MetricInfo] = about("declarations of the metrics, the primary one first", [])
    command: str | None = about("one line that runs this cell again")
    notes: list[str] = about("what a reader of this cell has to know", [])
    data: Data | None = about("the data set as the task saw it")
    reused: Reused | None = about("the training pass that was taken from another cell, its dense twin")
    taught: Taught | None = about("the dense twin that the cell learnt from, where it did")
    timings: Timings | None = about("seconds by stage, and what may disturb them")
    memory: Memory | None = about("the most that the process took")
    curve: Curve | None = about("loss and learning rate through training")
    sad: Sad | None = about("mask flips through training")
    audit: Audit | None = about("the pattern, counted from the finalised weights")
    metrics: dict[str, float | None] = about("{name: value}, on the finalised weights of the last epoch", {})
    baselines: dict[str, dict[str, float | None]] = about(
        "{name: {metric: value}}: what a trivial answer reaches, for scale", {}
    )
    facts: dict[str, str | bool | int | float | None] = about(
        "{name: text or number}: how this cell was trained or evaluated (a metric's signature, say)", {}
    )
    cost: Cost | None = about("parameters, multiply-accumulates and bytes of the finalised model")
    weights: Weights | None = about("the file of the evaluated weights")
    measurements: list[Measurement] = about("figures that plugins took of the cell", [])
    speed: Speed | None = about("times of one forward pass, added by `nmbench run --speed`")
    environment: Environment | None = about("versions and hardware")
    error: Failure | None = about("what went wrong, where the attempt failed")

    #: section that could not be read -> (why, what stands there)
    _broken: dict[str, tuple[str, Any]] = PrivateAttr(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """A line for each section that was left out because it is not what it should be."""
        return [f"{key} is left out: {reason}" for key, (reason, _) in self._broken.items()]

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the weights, where it is known."""
        return self.weights.sha256 if self.weights else None

    @property
    def primary(self) -> MetricInfo | None:
        """Declaration of the metric that the cell is judged by."""
        return self.metric_info[0] if self.metric_info else None

    @property
    def primary_value(self) -> float | None:
        """Its value."""
        return self.metrics.get(self.primary.name) if self.primary else None

    @property
    def outcome(self) -> str:
        """On one line: the primary metric, or why there is none."""
        if self.status.failed:
            return " ".join(((self.error and self.error.message) or "").split())
        if self.primary is None or self.primary_value is None:
            return ""
        return f"{self.primary.name} {self.primary_value:.4g} {self.primary.unit}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """As it stands on disk: absent stays absent, and sections that could not be read stay as they were."""
        # what was filled in place counts as given
        self.model_fields_set.update(key for key in type(self).model_fields if getattr(self, key))
        return self.model_dump(mode="json", exclude_unset=True) | {key: raw for key, (_, raw) in self._broken.items()}

    def write(self, path: Path) -> None:
        """Write it whole or not at all, redacted. Raises OSError, and ValueError for a NaN, which JSON has not."""
        write_json(path, redact.whole(self.to_json()))
