"""The sections of a record, key by key. What an attempt did not get to is absent; null stands for no number.

A negative count, a NaN, an integer that no 64 bits hold or lists that should be aligned and are not make a section
invalid.
"""

from array import array
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LIMIT = 2**63  # of a 64-bit integer, which is what a column of the frame holds
Count = Annotated[int, Field(ge=0, le=LIMIT - 1)]  # `lt=LIMIT`, which no 64 bits hold, is compared slowly


def _counts(values: list[int]) -> list[int]:
    try:
        array("Q", values)  # raises for a negative one and for one of more than 64 bits, sooner than comparing would
    except OverflowError:
        wrong = True
    else:
        wrong = sum(values) >= LIMIT and max(values) >= LIMIT
    if wrong:
        raise ValueError("one of its numbers is negative, or no 64-bit integer")
    return values


#: checked as a whole, in a tenth of the time that `list[Count]` takes
Counts = Annotated[list[int], AfterValidator(_counts)]
Numbers = list[float | None]


def about(text: str, default: Any = None) -> Any:
    """A field that may be absent, and its documentation."""
    if default in ([], {}):  # pydantic would copy it deeply, which takes longer
        return Field(default_factory=type(default), description=text)
    return Field(default, description=text)


class Section(BaseModel):
    """A part of a record. Keys that it does not name are kept as they are."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def _same_length(name: str, *series: list[Any]) -> None:
    if len({len(values) for values in series if values}) > 1:
        raise ValueError(f"the lists of {name} differ in length")


class Plugin(Section):
    """Where the task comes from."""

    distribution: str | None = about("name of the distribution")
    version: str | None = about("its version")
    contract: int | None = about("version of the task contract that it was written for")


class MetricInfo(Section):
    """Declaration of a metric."""

    name: str = Field(min_length=1, description="its key in `metrics`")
    unit: str = about("its unit", "")
    higher_is_better: bool = about("does a larger value mean a better model?", True)
    margin: Annotated[float, Field(ge=0)] = about("non-inferiority margin that the task declares, in its unit", 0.0)


class LayerAudit(Section):
    """One candidate weight."""

    name: str = Field(description="name of the parameter")
    shape: Counts = about("its shape", [])
    role: str = about('"sparse" or "dense"', "")
    reason: str | None = about("why it stayed dense", "")
    density: float | None = about("non-zeros / weights")
    violations: Count | None = about("groups that break the pattern")
    pattern: str | None = about("its own, where that is not the pattern of the cell")


class Audit(Section):
    """The pattern, counted from the finalised weights alone."""

    pattern: str | None = about("the pattern that was looked for; null for a dense twin")
    ok: bool | None = about("does every group of every sparse layer keep it?")
    density: float | None = about("non-zeros / weights over the sparse layers")
    weights: Count | None = about("weights of the sparse layers")
    nonzeros: Count | None = about("those that are not zero")
    layers: list[LayerAudit] = about("each candidate weight", [])


class LayerFlips(Section):
    """Flips by layer through training, at most 32 entries."""

    step: Counts = about("last step of each entry", [])
    flips: dict[str, Counts] = about("{name: [..]}, summed over the steps since the previous entry", {})

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if any(len(values) != len(self.step) for values in self.flips.values()):
            raise ValueError("the lists of sad.layers differ in length")
        return self


class Snapshots(Section):
    """L1 distances of masks at a few steps."""

    steps: Counts = about("when a mask was kept", [])
    consecutive: Counts = about("distance of each two that follow each other", [])
    first_last: Count | None = about("distance of the first and the last")


class Sad(Section):
    """Mask flips, counted through training."""

    pattern: str | None = about("pattern of the masks whose flips were counted; a dense twin's are only watched")
    weights: Count | None = about("weights of the layers that were watched")
    total: Count | None = about("mask flips over all steps and layers")
    per_layer: dict[str, Count] = about("{name: flips}", {})
    step: Counts = about("last step of each entry of `flips`", [])
    flips: Counts = about("flips summed over the steps since the previous entry", [])
    layers: LayerFlips | None = about("the same by layer")
    uncounted: Count | None = about("first steps that were done elsewhere, of which no flips are known")
    snapshots: Snapshots | None = about("L1 distances of masks")

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

    phase: Counts = about("training pass of each bin", [])
    step: Counts = about("last step of each bin", [])
    loss: Numbers = about("mean loss", [])
    lr: Numbers = about("last learning rate", [])

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _same_length("curve", self.phase, self.step, self.loss, self.lr)
        return self


class Taught(Section):
    """The dense twin that the cell learnt from."""

    cell_id: str = Field(description="id of that cell")
    attempt: Count = Field(description="number of its attempt")


class Cost(Section):
    """What the finalised model costs."""

    parameters: Count | None = about("parameters of the model")
    nonzeros: Count | None = about("those that are not zero")
    macs_dense: Count | None = about("multiply-accumulates for one example, dense")
    macs_effective: Count | None = about("the same without those of pruned weights")
    bytes_dense: Count | None = about("bytes of all parameters, dense")
    bytes_compressed: Count | None = about("bytes of all parameters, sparse ones compressed")
    training_passes: float | None = about("how many times the full schedule ran (2 for ASP)")


class Timings(Section):
    """Seconds by stage, and what may disturb them."""

    prepare_s: float | None = about("making or checking the data")
    build_s: float | None = about("building the model")
    train_s: float | None = about("training time of this attempt, seconds")
    train_total_s: float | None = about("training time with earlier attempts that it went on from, seconds")
    prune_s: float | None = about("calibration and pruning after training")
    evaluate_s: float | None = about("evaluation")
    total_s: float | None = about("all of it")
    steps: Count | None = about("optimizer steps over all passes")
    step_ms_median: float | None = about("median time of an optimizer step, milliseconds")
    resumed: bool | None = about("the attempt went on from an earlier one's checkpoint")
    alone: bool | None = about("no other cell ran on the machine meanwhile, so that times may be compared")


class Memory(Section):
    """The most that the process took until training ended."""

    peak_rss_bytes: Count | None = about("the most main memory that the process took until training ended, bytes")
    peak_gpu_bytes: Count | None = about("the same of the GPU's memory, bytes; NA on a CPU")
    method_bytes: Count | None = about("what method and teacher kept in training beside weights and optimizer, bytes")


class SpeedRow(Section):
    """One batch size; null where nothing was converted."""

    batch: Annotated[int, Field(gt=0, lt=LIMIT)] = Field(description="examples in the batch")
    dense_ms: float | None = about("median time of the dense model, milliseconds, by the engine that ran it fastest")
    converted_ms: float | None = about("the same of the converted model")
    dense_per_s: float | None = about("examples a second")
    converted_per_s: float | None = about("the same of the converted model")
    ratio: float | None = about("dense_ms / converted_ms")
    dense_by: str | None = about("that engine (nmbench.kernels.engines), where several were tried")
    engines: dict[str, float] = about("{engine: median time of the dense model, milliseconds}", {})
    dense_quartiles_ms: Numbers | None = about("first and third quartile")
    converted_quartiles_ms: Numbers | None = about("the same of the converted model")


class Speed(Section):
    """One forward pass of the evaluated model, measured by `nmbench run --speed` when all cells of a run have ended."""

    type: str | None = about('"cuda" or "cpu"')
    device: str | None = about("its name")
    dtype: str | None = about("of the weights")
    how: str | None = about("as in nmbench.kernels.timing")
    threads: Count | None = about("of the CPU")
    rows: list[SpeedRow] = about("one for each batch size", [])
    brief: bool = about("measured by default at the end of a run: batch size 1, one thread, few engines", False)
    layers: list[dict[str, Any]] = about("what ran where, with its batch (nmbench.kernels.conversion.report)", [])
    notes: list[str] = about("what a reader of these times has to know", [])

    @property
    def largest(self) -> SpeedRow | None:
        """The row of the largest batch."""
        return max(self.rows, key=lambda row: row.batch, default=None)


class Reused(Section):
    """The training pass that was taken from another cell, its dense twin."""

    phase: Count | None = about("which pass")
    cell_id: str = Field(description="id of the cell whose training pass was taken over")
    attempt: Count | None = about("its attempt")


class Data(Section):
    """The data set as the task saw it."""

    fingerprint: str | None = about("hash of the data set's content")
    counts: dict[str, Count] = about("{split: examples}", {})


class Weights(Section):
    """The evaluated weights, in weights.safetensors beside the record."""

    sha256: str | None = about("hash of the file")


class Environment(Section):
    """Versions and hardware (nmbench._util.machine)."""

    python: str | None = about("version of Python")
    os: str | None = about("system and architecture")
    versions: dict[str, str | None] = about("{distribution: version}", {})
    cpu: str | None = about("name of the processor")
    cores: Count | None = about("its cores")
    threads: Count | None = about("threads that the cell might use")
    gpu: str | None = about("name of the GPU; NA: none was used")
    driver: str | None = about("version of its driver")
    commit: str | None = about("git commit of nmbench")
    dirty: bool | None = about("were there changes beside that commit?")
    code: str | None = about("hash of the code that the cell executed")

    @property
    def torch(self) -> str | None:
        """Version of PyTorch."""
        return self.versions.get("torch")

    def flat(self) -> dict[str, Any]:
        """The versions of distributions beside the other keys."""
        given = {key: value for key, value in self if key in self.model_fields_set and key != "versions"}
        return {**self.versions, **given}


class Failure(Section):
    """What went wrong."""

    kind: str | None = about("kind of the failure")
    message: str | None = about("its message")
    traceback: str | None = about("name of a file beside the record, or null")


class Measurement(Section):
    """A figure that a plugin of the group `nmbench.measurements` took of the cell."""

    name: str = Field(min_length=1, description="its column in the frame is measurement.<name>")
    unit: str = about("its unit", "")
    value: float | None = Field(description="null where it could not be taken")
    source: str | None = about("distribution that took it")
