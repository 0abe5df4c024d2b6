"""The record of one attempt: `record.json`, schema version 1. The models below document the format, key by key.

`record.json` is written last, by exactly one writer; its existence means that the attempt ended. It holds no host name,
no user name and no absolute path. What an attempt did not get to is absent; null stands for a number that is none.

Status, Record      how an attempt ended; all that is kept of it. One class for each section of a record
parse               bytes -> Record, lifted to the current version
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from nmbench._util.files import write_json
from nmbench.plan.cell import Cell

__all__ = [
    "SCHEMA_VERSION", "Audit", "Cost", "Curve", "Data", "Environment", "Failure", "LayerAudit", "LayerFlips",
    "Measurement", "Memory", "MetricInfo", "Plugin", "Record", "Reused", "Sad", "Snapshots", "Speed", "SpeedRow",
    "Status", "Timings", "UnreadableRecord", "parse",
]  # fmt: skip

SCHEMA_VERSION = 1


class UnreadableRecord(Exception):
    """A record file that cannot be used; the text says why, on one line."""


class Status(StrEnum):
    """How an attempt ended; `about` says when."""

    about: str

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

    def __new__(cls, value: str, about: str = "") -> Self:
        """A member is its value, a text, and knows what it is about."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.about = about
        return member

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
        """Is the resume state worth keeping? The same training may still succeed."""
        return self in (Status.INTERRUPTED, Status.CRASH, Status.TIMEOUT, Status.HANG, Status.OOM)


_LIMIT = 2**63  # of a 64-bit integer, which is what a column of the frame holds
Count = Annotated[int, Field(ge=0, lt=_LIMIT)]
Numbers = list[float | None]


def _about(text: str, default: Any = None) -> Any:
    """A field that may be absent, and its documentation."""
    return Field(default, description=text)


class _ReadAsDict:
    """The old way to read a record, for code that has not been moved to attributes yet."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` where it is absent or null."""
        value = getattr(self, key, None)
        return default if value is None else value

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: str) -> bool:
        return key in self.model_fields_set  # type: ignore[attr-defined]


class Section(_ReadAsDict, BaseModel):
    """A part of a record. Keys that it does not name are kept as they are."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def _same_length(name: str, *series: list[Any]) -> None:
    if len({len(values) for values in series if values}) > 1:
        raise ValueError(f"the lists of {name} differ in length")


class Plugin(Section):
    """Where the task comes from."""

    distribution: str | None = _about("name of the distribution")
    version: str | None = _about("its version")
    contract: int | None = _about("version of the task contract that it was written for")


class MetricInfo(Section):
    """Declaration of a metric."""

    name: str = Field(min_length=1, description="its key in `metrics`")
    unit: str = _about("its unit", "")
    higher_is_better: bool = _about("does a larger value mean a better model?", True)
    margin: Annotated[float, Field(ge=0)] = _about("non-inferiority margin that the task declares, in its unit", 0.0)


class LayerAudit(Section):
    """One candidate weight."""

    name: str = Field(description="name of the parameter")
    shape: list[Count] = _about("its shape", [])
    role: str = _about('"sparse" or "dense"', "")
    reason: str | None = _about("why it stayed dense", "")
    density: float | None = _about("non-zeros / weights")
    violations: Count | None = _about("groups that break the pattern")


class Audit(Section):
    """The pattern, counted from the finalised weights alone."""

    pattern: str | None = _about("the pattern that was looked for; null for a dense twin")
    ok: bool | None = _about("does every group of every sparse layer keep it?")
    density: float | None = _about("non-zeros / weights over the sparse layers")
    weights: Count | None = _about("weights of the sparse layers")
    nonzeros: Count | None = _about("those that are not zero")
    layers: list[LayerAudit] = _about("each candidate weight", [])


class LayerFlips(Section):
    """Flips by layer through training, at most 32 entries."""

    step: list[Count] = _about("last step of each entry", [])
    flips: dict[str, list[Count]] = _about("{name: [..]}, summed over the steps since the previous entry", {})

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if any(len(values) != len(self.step) for values in self.flips.values()):
            raise ValueError("the lists of sad.layers differ in length")
        return self


class Snapshots(Section):
    """L1 distances of masks at a few steps."""

    steps: list[Count] = _about("when a mask was kept", [])
    consecutive: list[Count] = _about("distance of each two that follow each other", [])
    first_last: Count | None = _about("distance of the first and the last")


class Sad(Section):
    """Mask flips, counted through training."""

    pattern: str | None = _about("pattern of the masks whose flips were counted; a dense twin's are only watched")
    weights: Count | None = _about("weights of the layers that were watched")
    total: Count | None = _about("mask flips over all steps and layers")
    per_layer: dict[str, Count] = _about("{name: flips}", {})
    step: list[Count] = _about("last step of each entry of `flips`", [])
    flips: list[Count] = _about("flips summed over the steps since the previous entry", [])
    layers: LayerFlips | None = _about("the same by layer")
    uncounted: Count | None = _about("first steps that were done elsewhere, of which no flips are known")
    snapshots: Snapshots | None = _about("L1 distances of masks")

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _same_length("sad", self.step, self.flips)
        return self

    @property
    def per_weight(self) -> float | None:
        """Flips per weight; None where they were not counted."""
        return None if self.total is None or not self.weights else self.total / self.weights


class Curve(Section):
    """Training, in at most 512 bins of optimizer steps over all passes."""

    phase: list[Count] = _about("training pass of each bin", [])
    step: list[Count] = _about("last step of each bin", [])
    loss: Numbers = _about("mean loss", [])
    lr: Numbers = _about("last learning rate", [])

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _same_length("curve", self.phase, self.step, self.loss, self.lr)
        return self


class Cost(Section):
    """What the finalised model costs."""

    parameters: Count | None = _about("parameters of the model")
    nonzeros: Count | None = _about("those that are not zero")
    macs_dense: Count | None = _about("multiply-accumulates for one example, dense")
    macs_effective: Count | None = _about("the same without those of pruned weights")
    bytes_dense: Count | None = _about("bytes of all parameters, dense")
    bytes_compressed: Count | None = _about("bytes of all parameters, sparse ones compressed")
    training_passes: float | None = _about("how many times the full schedule ran (2 for ASP)")


class Timings(Section):
    """Seconds by stage, and what may disturb them."""

    prepare_s: float | None = _about("making or checking the data")
    build_s: float | None = _about("building the model")
    train_s: float | None = _about("training time of this attempt, seconds")
    train_total_s: float | None = _about("training time with earlier attempts that it went on from, seconds")
    evaluate_s: float | None = _about("evaluation")
    total_s: float | None = _about("all of it")
    steps: Count | None = _about("optimizer steps over all passes")
    step_ms_median: float | None = _about("median time of an optimizer step, milliseconds")
    resumed: bool | None = _about("the attempt went on from an earlier one's checkpoint")
    alone: bool | None = _about("no other cell ran on the machine meanwhile, so that times may be compared")


class Memory(Section):
    """The most that the process took until training ended."""

    peak_rss_bytes: Count | None = _about("the most main memory that the process took until training ended, bytes")
    peak_gpu_bytes: Count | None = _about("the same of the GPU's memory, bytes; NA on a CPU")


class SpeedRow(Section):
    """One batch size; null where nothing was converted."""

    batch: Annotated[int, Field(gt=0, lt=_LIMIT)] = Field(description="examples in the batch")
    dense_ms: float | None = _about("median time of the dense layers, milliseconds")
    converted_ms: float | None = _about("the same of the converted model")
    dense_per_s: float | None = _about("examples a second")
    converted_per_s: float | None = _about("the same of the converted model")
    ratio: float | None = _about("dense_ms / converted_ms")
    dense_quartiles_ms: Numbers | None = _about("first and third quartile")
    converted_quartiles_ms: Numbers | None = _about("the same of the converted model")


class Speed(Section):
    """One forward pass of the evaluated model, measured by `nmbench run --speed` when all cells of a run have ended."""

    type: str | None = _about('"cuda" or "cpu"')
    device: str | None = _about("its name")
    dtype: str | None = _about("of the weights")
    how: str | None = _about("as in nmbench.kernels.timing")
    threads: Count | None = _about("of the CPU")
    rows: list[SpeedRow] = _about("one for each batch size", [])
    layers: list[dict[str, Any]] = _about("what ran where, with its batch (nmbench.kernels.convert.report)", [])
    notes: list[str] = _about("what a reader of these times has to know", [])

    @property
    def largest(self) -> SpeedRow | None:
        """The row of the largest batch."""
        return max(self.rows, key=lambda row: row.batch, default=None)


class Reused(Section):
    """The training pass that was taken from another cell, its dense twin."""

    phase: Count | None = _about("which pass")
    cell_id: str = Field(description="id of the cell whose training pass was taken over")
    attempt: Count | None = _about("its attempt")


class Data(Section):
    """The data set as the task saw it."""

    fingerprint: str | None = _about("hash of the data set's content")
    counts: dict[str, Count] = _about("{split: examples}", {})


class Environment(Section):
    """Versions and hardware (nmbench._util.machine)."""

    python: str | None = _about("version of Python")
    os: str | None = _about("system and architecture")
    versions: dict[str, str | None] = _about("{distribution: version}", {})
    cpu: str | None = _about("name of the processor")
    cores: Count | None = _about("its cores")
    threads: Count | None = _about("threads that the cell might use")
    gpu: str | None = _about("name of the GPU; NA: none was used")
    driver: str | None = _about("version of its driver")
    commit: str | None = _about("git commit of nmbench")
    dirty: bool | None = _about("were there changes beside that commit?")
    code: str | None = _about("hash of the code that the cell executed")

    @property
    def torch(self) -> str | None:
        """Version of PyTorch."""
        return self.versions.get("torch")

    def flat(self) -> dict[str, Any]:
        """The versions of distributions beside the other keys."""
        return {**self.versions, **self.model_dump(exclude={"versions"}, exclude_unset=True)}


class Failure(Section):
    """What went wrong."""

    kind: str | None = _about("kind of the failure")
    message: str | None = _about("its message")
    traceback: str | None = _about("name of a file beside the record, or null")


class Measurement(Section):
    """A figure that a plugin of the group `nmbench.measurements` took of the cell."""

    name: str = Field(min_length=1, description="its column in the frame is measurement.<name>")
    unit: str = _about("its unit", "")
    value: float | None = Field(description="null where it could not be taken")
    source: str | None = _about("distribution that took it")


def _cell(value: object) -> Cell:
    """The cell of a record: plain text, an integer seed, tables of settings. Raises ValueError."""
    if isinstance(value, Cell):
        return value
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    kinds = {"task": str, "model": str, "scale": str, "pattern": str, "method": str, "seed": int}
    if missing := [key for key, kind in kinds.items() if type(value.get(key)) is not kind or value[key] == ""]:
        raise ValueError(f"the cell has no {', '.join(missing)}")
    if not abs(value["seed"]) < _LIMIT:
        raise ValueError("the seed is no 64-bit integer")
    for key in ("train", "hyper", "init"):
        if not isinstance(value.get(key) or {}, dict):
            raise ValueError(f"its {key} is not an object")
    settings = {key: value.get(key) or {} for key in ("train", "hyper")}
    json.dumps(settings, allow_nan=False)
    return Cell.from_dict({**value, **settings, "init": _init(value.get("init"))})


def _init(value: dict[str, Any] | None) -> dict[str, str] | None:
    """Initial weights: the hash and the file's name. Old records have the path as it was typed."""
    if not value:
        return None
    if type(value.get("sha256")) is not str:
        raise ValueError("its init has no sha256")
    name = value.get("file") or value.get("path") or ""
    return {"sha256": value["sha256"], "file": Path(str(name)).name}


class Record(Section):
    """One attempt."""

    schema_version: Literal[1] = Field(1, description="1")
    matrix: str | None = _about("name of the matrix that ran the cell")
    cell: Annotated[Cell, BeforeValidator(_cell), PlainSerializer(Cell.to_dict)] = Field(
        description="task, model, scale, train, pattern, method, hyper, seed, and `init` when weights were given"
    )
    cell_id: str = Field(pattern="^[0-9a-f]{16}$", description="16 hexadecimal digits, a hash of the scientific fields")
    attempt: Annotated[int, Field(ge=1, lt=_LIMIT)] = Field(description="1, 2, ...")
    status: Status = Field(strict=False, description="how the attempt ended")
    plugin: Plugin | None = _about("where the task comes from")
    metric_info: list[MetricInfo] = _about("declarations of the metrics, the primary one first", [])
    command: str | None = _about("one line that runs this cell again")
    notes: list[str] = _about("what a reader of this cell has to know", [])
    data: Data | None = _about("the data set as the task saw it")
    reused: Reused | None = _about("the training pass that was taken from another cell, its dense twin")
    timings: Timings | None = _about("seconds by stage, and what may disturb them")
    memory: Memory | None = _about("the most that the process took")
    curve: Curve | None = _about("loss and learning rate through training")
    sad: Sad | None = _about("mask flips through training")
    audit: Audit | None = _about("the pattern, counted from the finalised weights")
    metrics: dict[str, float | None] = _about("{name: value}, on the finalised weights of the last epoch", {})
    baselines: dict[str, dict[str, float | None]] = _about(
        "{name: {metric: value}}: what a trivial answer reaches, for scale", {}
    )
    facts: dict[str, str | bool | int | float | None] = _about(
        "{name: text or number}: how this cell was trained or evaluated (a metric's signature, say)", {}
    )
    cost: Cost | None = _about("parameters, multiply-accumulates and bytes of the finalised model")
    measurements: list[Measurement] = _about("figures that plugins took of the cell", [])
    speed: Speed | None = _about("times of one forward pass, added by `nmbench run --speed`")
    environment: Environment | None = _about("versions and hardware")
    error: Failure | None = _about("what went wrong, where the attempt failed")

    #: section that could not be read -> (why, what stands there)
    _broken: dict[str, tuple[str, Any]] = PrivateAttr(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """A line for each section that was left out because it is not what it should be."""
        return [f"{key} is left out: {reason}" for key, (reason, _) in self._broken.items()]

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
            return (self.error and self.error.message) or ""
        if self.primary is None or self.primary_value is None:
            return ""
        return f"{self.primary.name} {self.primary_value:.4g} {self.primary.unit}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """As it stands on disk: absent stays absent, and sections that could not be read stay as they were."""
        # what was filled in place counts as given
        self.model_fields_set.update(key for key in type(self).model_fields if getattr(self, key))
        return self.model_dump(mode="json", exclude_unset=True) | {key: raw for key, (_, raw) in self._broken.items()}

    def write(self, path: Path) -> None:
        """Write it whole or not at all. Raises OSError, and ValueError for a number that JSON does not have."""
        write_json(path, self.to_json())

    def __getitem__(self, key: str) -> Any:
        return self.cell.to_dict() if key == "cell" else super().__getitem__(key)


#: without these there is no record; any other key may be left out
_IDENTITY = frozenset({"schema_version", "cell", "cell_id", "attempt", "status"})
#: version -> function that lifts a record of that version to the next one
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def parse(data: bytes, attempt: int = 1) -> Record:
    """The record in `data`. A section that is not what it should be is left out and named in `Record.problems`.

    attempt: number of the attempt, for a record that does not say it. Raises UnreadableRecord where there is no record,
    or one without an identity, or of a newer version.
    """
    try:
        return Record.model_validate_json(data)
    except ValidationError:
        pass
    try:
        return _lenient({"attempt": attempt} | _migrated(_json(data)))
    except RecursionError:
        raise UnreadableRecord("nested too deeply to be a record") from None


def _json(data: bytes) -> Any:
    if not data.strip(b"\0 \n\r\t"):
        raise UnreadableRecord("the file is empty: its writer was stopped, or the disk was full")
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError:
        raise UnreadableRecord("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise UnreadableRecord(f"broken JSON at line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # Python reads no integer of thousands of digits
        raise UnreadableRecord(f"a number in it is too long: {error}") from error


def _migrated(record: Any) -> dict[str, Any]:
    """Lift `record` to the current version, step by step."""
    if not isinstance(record, dict) or type(record.get("schema_version")) is not int:
        raise UnreadableRecord("no schema_version: this is not a record")
    while (version := record["schema_version"]) < SCHEMA_VERSION:
        if version not in _MIGRATIONS:
            raise UnreadableRecord(f"schema version {version} has no migration")
        try:
            record = _MIGRATIONS[version](record)
        except Exception as error:  # a record that it does not expect must not stop the others
            raise UnreadableRecord(f"the migration failed: {type(error).__name__}: {error}") from error
    if version > SCHEMA_VERSION:
        raise UnreadableRecord(f"schema version {version} is newer than this nmbench reads ({SCHEMA_VERSION})")
    lifted: dict[str, Any] = record
    return lifted


def _lenient(raw: dict[str, Any]) -> Record:
    raw = {key: value for key, value in raw.items() if value is not None}
    wrong = {key: f"{key}: it holds half a character" for key, value in raw.items() if not _is_unicode([key, value])}
    try:
        return _without(raw, wrong)
    except ValidationError as error:
        for part in error.errors(include_url=False, include_input=False):
            wrong.setdefault(str(part["loc"][0]), _words(part))
    return _without(raw, wrong)


def _without(raw: dict[str, Any], wrong: dict[str, str]) -> Record:
    """The record without the sections that are `wrong`; key -> reason."""
    if reason := next((wrong[key] for key in wrong if key in _IDENTITY), None):
        raise UnreadableRecord(reason)
    record = Record.model_validate({key: value for key, value in raw.items() if key not in wrong})
    record._broken = {key: (reason, raw.get(key)) for key, reason in wrong.items()}
    return record


def _is_unicode(value: Any) -> bool:
    """Can it be written? JSON may escape one half of a character that takes two."""
    try:
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


def _words(error: ErrorDetails) -> str:
    """One line: where it is, and what is wrong with it."""
    where = ".".join(map(str, error["loc"]))
    return " ".join(f"{where}: {error['msg'].removeprefix('Value error, ')}".split())[:200]
