"""What a worker is told, and what it says while it works: JSON files between two processes, read by one type each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, PlainSerializer, ValidationError

from nmbench.plan.cell import Cell
from nmbench.plan.declarations import PluginStatus
from nmbench.records.schema import Data, Record, Status

Format = Literal["onnx", "safetensors", "torch"]


#: format in which a finished model is exported -> suffix of the file
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt"}


def _cell(value: Any) -> Any:
    return value if isinstance(value, Cell) else Cell.from_dict(value)


#: exit status of a worker that ends because another attempt has taken its cell over
OVERTAKEN = 75
#: and of one whose record found no room on the disk: what it prints may find none either
NO_ROOM = 74


class Job(BaseModel):
    """Paths are absolute: a worker may be started anywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: Annotated[InstanceOf[Cell], BeforeValidator(_cell), PlainSerializer(Cell.to_dict)]
    reference: str  # of the task: "module:attribute" or "path:/file.py"
    data_dir: Path
    device: Literal["cpu", "cuda"] = "cpu"
    parent: int = 0  # process id; the worker ends when this process does; 0: it has none


class Prepared(BaseModel):
    """What a worker answers to a Job: the data, or why there are none."""

    status: Status | PluginStatus = Status.OK
    message: str = ""
    data: Data | None = None


class TrainingJob(Job):
    """One attempt at a cell.

    record: the one that holds if the attempt leaves no other. slots: of the executor that it takes. code: hash of the
    code that the attempt executes. init: file of the cell's initial weights. first_phase: attempt folder of the dense
    twin whose training may stand for the first pass, or which the cell learns from.
    """

    record: Record
    attempt_dir: Path
    work_dir: Path
    threads: int = 1
    ranks: int = 1
    slots: int = 1
    alone: bool = False
    init: Path | None = None
    first_phase: Path | None = None
    code: str = ""
    trace: bool = False


class SpeedJob(Job):
    """budget_s: seconds of measuring. weights: hash of the file of weights, where it is known.

    brief: one example at a time, one thread of a CPU, and engines that are ready at once.
    """

    attempt_dir: Path
    weights: str | None = None
    budget_s: float
    brief: bool = False


class DeployJob(Job):
    """A finished model, to be written to `out`.

    weights: file of them. sha256: its hash, where a record tells it. own: the suite wrote it; a stranger's may be a
    state dict of torch.save.
    """

    weights: Path
    sha256: str | None = None
    own: bool = True
    out: Path


class ConvertJob(DeployJob):
    """pattern: that all weights should keep to. batch: of the example inputs. dtype: of weights and inputs.

    limit_s: after so many seconds no other layer is timed.
    """

    pattern: str | None = None
    batch: int = 1
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    limit_s: float | None = None


class ExportJob(DeployJob):
    """metadata: what the file tells of itself."""

    format: Format
    metadata: dict[str, str]


class Beat(BaseModel):
    """Where a training stands: optimizer `step` of `total` in this phase, and the newest training loss."""

    stage: str = ""
    phase: int = 0
    step: int = 0
    total: int | None = None
    loss: float | None = None
    node: str = ""  # name of the machine
    pid: int = 0  # of the process there

    @classmethod
    def read(cls, path: Path) -> Beat | None:
        """The heartbeat in `path`, or None where there is none to be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
