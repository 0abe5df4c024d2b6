"""A finished model in the formats of other programs: ONNX, safetensors, a state dict of torch.save.

Pruned weights stay in the file as zeros: any program may read it, and one with sparse kernels finds the pattern.
"""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmbench._util.errors import UsageError, message
from nmbench._util.files import replacing
from nmbench.kernels import engines
from nmbench.kernels.conversion.agreement import difference
from nmbench.kernels.conversion.watch import Arguments
from nmbench.records import weights
from nmbench.running.job import ExportJob, Format
from nmbench.worker.inference import Inputs
from nmbench.worker.speed import batched

#: |difference| / |result| that onnxruntime may be off by, to which `difference` is relative
_AGREE = 1e-4
_TRIED = (1, 3)  # batch sizes; a dynamic batch is exported with 2
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def write(model: nn.Module, inputs: Inputs, job: ExportJob) -> str:
    """Write `job.out`, whole or not at all; what is to be said of it.

    model: in evaluation mode, on the CPU. inputs: of one example. Raises UsageError for a model that ONNX cannot
    express, or that gives other numbers there; OSError.
    """
    how = _WRITERS[job.format](model, inputs, job)
    held = [weight for weight in model.parameters() if weight.dim() > 1]
    zeros, total = sum(int((weight == 0).sum()) for weight in held), sum(weight.numel() for weight in held)
    return f"{job.out.name}: {how}\n{zeros:,} of {total:,} weights are zero, and stand in the file as zeros"


def _safetensors(model: nn.Module, inputs: Inputs, job: ExportJob) -> str:
    weights.save(model, job.out, job.metadata)
    return f"safetensors, with metadata: {', '.join(job.metadata)}"


def _torch(model: nn.Module, inputs: Inputs, job: ExportJob) -> str:
    with replacing(job.out) as file:
        torch.save(model.state_dict(), file)
    return "a state dict for torch.load(path, weights_only=True); it has no room for metadata"


# -- ONNX -----------------------------------------------------------------------------------------------------------
def _onnx(model: nn.Module, inputs: Inputs, job: ExportJob) -> str:
    """With a dynamic batch where that can be, else with one of 1."""
    fixed = ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        try:
            checked = _exported(model, inputs, file, _TRIED)
        except engines.Absent as error:
            raise UsageError(str(error)) from error
        except Exception as error:  # exporters raise whatever they like
            fixed = f" (dynamic: {_first(error)})"
            checked = _exported_fixed(model, inputs, file)
        batch = "1" if fixed else "dynamic"
        data = _with_metadata(file, {**job.metadata, "opset": str(engines.OPSET), "batch": batch})
    with replacing(job.out) as temporary:
        temporary.write_bytes(data)
    return f"ONNX, opset {engines.OPSET}, batch {batch}{fixed}; {checked}"


def _exported_fixed(model: nn.Module, inputs: Inputs, file: Path) -> str:
    try:
        return _exported(model, inputs, file, (1,))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"torch.onnx refuses the model: {_first(error)}") from error


def _exported(model: nn.Module, inputs: Inputs, file: Path, batches: Sequence[int]) -> str:
    """Write `file`, check it at the batch sizes, and say so; with several of them the batch is dynamic.

    Raises UsageError where onnxruntime gives other numbers than torch, and whatever torch.onnx raises.
    """
    engines.export_onnx(model, inputs, file, dynamic_batch=len(batches) > 1)
    if find_spec("onnxruntime") is None:
        return "not checked: onnxruntime is not installed (pip install 'nmbench[engines]')"
    run = engines.load_onnx(file)
    off = max(_off(model, run, _varied(batched(inputs, batch)), batch) for batch in batches)
    if not off <= _AGREE:
        raise UsageError(f"onnxruntime gives other numbers than torch (relative difference {off:.1e})")
    return f"checked in onnxruntime at batch {' and '.join(map(str, batches))}: off by {off:.1e} of torch's result"


def _off(
    model: nn.Module, run: Callable[[Sequence[Any]], Callable[[], list[Any]]], inputs: Inputs, batch: int
) -> float:
    """The relative difference; infinite where the results have different forms. Raises UsageError."""
    with torch.no_grad():
        right = Arguments(tuple(inputs), {}).own().give(model)  # it may write to its inputs
    try:
        got = run(inputs)()
    except Exception as error:  # of a type of onnxruntime's own, with a message of many lines
        raise UsageError(f"onnxruntime does not run it at batch {batch}") from error
    off = difference(right, [torch.as_tensor(array) for array in got])
    return float("inf") if off is None else off * _AGREE


def _varied(inputs: Inputs) -> Inputs:
    """With noise, so that examples of a batch differ and zeros do not hide anything."""
    draw = torch.Generator().manual_seed(0)

    def noisy(value: Any) -> Any:
        real = isinstance(value, Tensor) and value.is_floating_point()
        return value + 0.1 * torch.randn(value.shape, generator=draw, dtype=value.dtype) if real else value

    return tuple(map(noisy, inputs))


def _with_metadata(file: Path, metadata: Mapping[str, str]) -> bytes:
    """The model in `file` with metadata."""
    import onnx

    held = onnx.load(file)
    onnx.helper.set_model_props(held, dict(metadata))
    data: bytes = held.SerializeToString()
    return data


def _first(error: BaseException) -> str:
    """What is wrong, on one line: torch.onnx raises a summary from the error."""
    cause = error if isinstance(error, UsageError) else error.__cause__ or error
    lines = [line.strip() for line in _COLOUR.sub("", message(cause)).splitlines() if line.strip()]
    return (lines or [type(cause).__name__])[0][:300]


_WRITERS: Mapping[Format, Callable[[nn.Module, Inputs, ExportJob], str]] = {
    "onnx": _onnx,
    "safetensors": _safetensors,
    "torch": _torch,
}
