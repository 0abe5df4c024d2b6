"""How fast a finished model runs, dense and converted: one forward pass, end to end. The `speed` section of a record.

measure     model, example inputs -> the section
batched     example inputs for another batch size

Both models have the same, masked weights: "dense" multiplies them with torch's dense kernels. The converted one is made
anew for each batch size, since what is faster depends on it (nmbench.kernels.convert). Times are medians of forward
passes that take turns. On a GPU weights and inputs are bfloat16 (or float16) and channels_last, as for inference. A
model that does not run so, as one that computes coordinates in float32, runs under autocast with such weights.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nmbench._util.machine import cpu_name
from nmbench.contract.modes import evaluating
from nmbench.kernels.timing import Timing, compare

__all__ = ["NotBatched", "batched", "measure"]

#: forward passes that one comparison needs at least, of both models together, warm-up included
_PASSES = 20
_MOST = {"cuda": 1024, "cpu": 64}
_MEMORY = 0.8  # of the GPU's, from which on no larger batch is tried


class NotBatched(ValueError):
    """The example inputs are of one example in a way that cannot be repeated; the text says which."""


def measure(
    model: nn.Module,
    inputs: Sequence[Any],
    device: torch.device,
    *,
    budget_s: float = 30.0,
    limit_s: float | None = None,
    sparse: bool = True,
    progress: Callable[[dict[str, Any]], None] = lambda section: None,
) -> dict[str, Any]:
    """Time one forward pass at batch size 1 and at the largest that fits the device's memory and the budget.

    Args:
        model: finalised; it is moved to the device and not changed otherwise.
        inputs: positional inputs of one forward pass with batch size 1.
        budget_s: seconds of measuring, about; what converting takes comes on top.
        limit_s: see `convert`; for each batch size.
        sparse: are there sparse weights to convert? If not, only the dense time is taken.
        progress: gets the section as it stands after each batch size.

    Raises whatever the model raises on its example inputs.
    """
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    hows: set[str] = set()

    def section() -> dict[str, Any]:
        return {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
            "dtype": str(dtype).removeprefix("torch."),
            "how": ", ".join(sorted(hows)),
            "threads": torch.get_num_threads(),
            "rows": rows,
            "layers": layers,
            "notes": list(dict.fromkeys(notes)),
        }

    with _for_speed(), torch.no_grad():
        ready, given, dtype = _ready(model.to(device), inputs, device, notes)
        with evaluating(ready):
            for batch in _batches(ready, given, device, budget_s, notes):
                row, told, how = _fitting(ready, given, batch, device, (budget_s, limit_s), sparse, notes)
                if row["batch"] in [one["batch"] for one in rows]:
                    continue
                rows.append(row)
                layers += [{"batch": row["batch"], **line} for line in told]
                hows.add(how)
                progress(section())
    return section()


def batched(inputs: Sequence[Any], batch: int) -> tuple[Any, ...]:
    """The inputs with every tensor of one example repeated along its first dimension; plain numbers and text stay.

    Raises NotBatched for anything else.
    """
    return tuple(_repeated(one, batch) for one in inputs)


def _repeated(value: Any, batch: int) -> Any:
    if batch == 1 or value is None or isinstance(value, int | float | str | bool):
        return value
    if not isinstance(value, Tensor):
        raise NotBatched(f"an example input is a {type(value).__name__}, not a tensor")
    if value.dim() == 0:
        return value
    if value.shape[0] != 1:
        raise NotBatched(f"an example input of shape {tuple(value.shape)} is not of one example")
    return value.repeat(batch, *(1 for _ in value.shape[1:]))


# -- the model as it would be used ------------------------------------------------------------------------------------
@contextmanager
def _for_speed() -> Iterator[None]:
    """Neither deterministic algorithms nor a fixed choice of cuDNN's, which training sets; put back afterwards."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]


def _ready(
    model: nn.Module, inputs: Sequence[Any], device: torch.device, notes: list[str]
) -> tuple[nn.Module, tuple[Any, ...], torch.dtype]:
    """On a GPU a 16-bit copy of the model, or the model itself where it runs in neither; the inputs beside it."""
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if device.type != "cuda":
        return model, _moved(inputs, device, None), own
    for dtype in (torch.bfloat16, torch.float16):
        narrow = copy.deepcopy(model).to(dtype).to(memory_format=torch.channels_last)
        for one, given in (
            (narrow, _moved(inputs, device, dtype)),
            (_UnderAutocast(narrow, device.type, dtype), _moved(inputs, device, None)),
        ):
            name = f"{str(dtype).removeprefix('torch.')}{'' if one is narrow else ' under autocast'}"
            try:
                with evaluating(one):
                    one(*given)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # an operator without this dtype, of whatever library
                notes.append(f"it does not run in {name}: {_line(error)}")
                continue
            if one is not narrow:
                notes.append(f"it runs in {name}")
            return one, given, dtype
    return model, _moved(inputs, device, None), own


class _UnderAutocast(nn.Module):
    """A model that runs under autocast to the dtype of its weights."""

    def __init__(self, model: nn.Module, kind: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.autocast = model, (kind, dtype)

    def forward(self, *inputs: Any) -> Any:
        """What the model gives."""
        with torch.autocast(*self.autocast):
            return self.model(*inputs)


def _moved(inputs: Sequence[Any], device: torch.device, dtype: torch.dtype | None) -> tuple[Any, ...]:
    def move(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(device, dtype if value.is_floating_point() else None)
        images = device.type == "cuda" and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if images else value

    moved: tuple[Any, ...] = tuple(pytree.tree_map(move, list(inputs)))
    return moved


# -- batch sizes ------------------------------------------------------------------------------------------------------
def _batches(
    model: nn.Module, inputs: Sequence[Any], device: torch.device, budget_s: float, notes: list[str]
) -> list[int]:
    """[1] and the largest power of two that fits memory and budget, as dense passes show."""
    batch, largest = 1, 1
    while batch <= _MOST.get(device.type, 1):
        try:
            seconds = _seconds(model, batched(inputs, batch), device)
        except NotBatched as error:
            notes.append(f"only batch size 1: {error}")
            break
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        largest = batch
        if 2 * seconds * _PASSES > budget_s / 2 or _nearly_full(device):
            break
        batch *= 2
    return [1] if largest == 1 else [1, largest]


def _seconds(model: nn.Module, inputs: Sequence[Any], device: torch.device) -> float:
    """Of the second of two passes: the first one compiles, tunes and allocates."""
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        model(*inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    return seconds


def _nearly_full(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    total = torch.cuda.get_device_properties(device).total_memory
    return 2 * torch.cuda.max_memory_allocated(device) > _MEMORY * total


# -- one batch size ---------------------------------------------------------------------------------------------------
def _fitting(
    model: nn.Module,
    inputs: Sequence[Any],
    batch: int,
    device: torch.device,
    seconds: tuple[float, float | None],
    sparse: bool,
    notes: list[str],
) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """The row of this batch size, or of the largest smaller one at which both models fit the memory."""
    while True:
        try:
            return _row(model, batched(inputs, batch), batch, device, seconds, sparse, notes)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            batch //= 2


def _row(
    model: nn.Module,
    inputs: Sequence[Any],
    batch: int,
    device: torch.device,
    seconds: tuple[float, float | None],
    sparse: bool,
    notes: list[str],
) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """(row, what ran where, how it was timed)."""
    calls: dict[str, list[Callable[[], object]]] = {"dense": [lambda: model(*inputs)]}
    graph, budget_s = compare(calls, device, budget_s=0.0)["dense"].how == "cuda-graph", seconds[0]
    converted, told = _converted(model, inputs, graph, seconds, notes) if sparse else (None, [])
    if converted is not None:
        calls["converted"] = [lambda: converted(*inputs)]
    times = compare(calls, device, budget_s=budget_s / 4, graph=graph)
    if len({one.how for one in times.values()}) > 1:  # a graph against plain calls would compare launches
        times = compare(calls, device, budget_s=budget_s / 4, graph=False)
    dense, other = times["dense"], times.get("converted")
    if other is None and told and device.type == "cuda":
        notes.append(f"batch {batch}: no layer runs sparse, so that the converted model is the dense one")
        other = dense
    row: dict[str, Any] = {"batch": batch, **_figures("dense", dense, batch), **_figures("converted", other, batch)}
    row["ratio"] = None if other is None else round(dense.us / other.us, 4)
    return row, told, dense.how


def _converted(
    model: nn.Module, inputs: Sequence[Any], graph: bool, seconds: tuple[float, float | None], notes: list[str]
) -> tuple[nn.Module | None, list[dict[str, Any]]]:
    """(the converted model, or None where nothing in it is sparse; the report's rows)."""
    from nmbench.kernels.conversion.convert import convert

    launch: Literal["graph", "eager"] = "graph" if graph else "eager"
    try:
        converted, report = convert(
            model, tuple(inputs), launch=launch, budget_s=min(0.3, seconds[0] / 100), limit_s=seconds[1]
        )
    except ValueError as error:  # it keeps to no pattern that a backend takes, for instance
        notes.append(f"not converted: {_line(error)}")
        return None, []
    told = report.to_dict()
    notes.extend([told["summary"], *told["notes"]])
    if isinstance(model, _UnderAutocast):
        for row in told["rows"]:
            row["layers"] = [name.removeprefix("model.") for name in row["layers"]]
    return converted if report.sparse else None, told["rows"]


def _figures(name: str, timing: Timing | None, batch: int) -> dict[str, Any]:
    if timing is None:
        return {f"{name}_ms": None, f"{name}_per_s": None}
    return {
        f"{name}_ms": round(timing.us / 1e3, 5),
        f"{name}_quartiles_ms": [round(timing.low / 1e3, 5), round(timing.high / 1e3, 5)],
        f"{name}_per_s": round(1e6 * batch / timing.us, 3),
    }


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
