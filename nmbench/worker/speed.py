"""How fast a finished model runs, dense and converted: one forward pass, end to end. The `speed` section of a record.

Both models have the same, masked weights: "dense" multiplies them with torch's dense kernels, on a CPU by the fastest
of several engines (nmbench.kernels.engines). The converted one is made anew for each batch size, since what is faster
depends on it (nmbench.kernels.convert). Times are medians of forward passes that take turns, of models that are made
ready for inference (nmbench.worker.inference).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nmbench._util.errors import first_line
from nmbench._util.machine import cpu_name
from nmbench.contract.modes import evaluating
from nmbench.kernels.timing import Timing, compare
from nmbench.records.attempt import WEIGHTS
from nmbench.records.schema import Speed, SpeedRow
from nmbench.running.job import SpeedJob
from nmbench.running.speed import Answer
from nmbench.worker.failures import first_lines
from nmbench.worker.finished import finished
from nmbench.worker.inference import Autocast, Inputs, for_speed, ready

#: forward passes that one comparison needs at least, of both models together, warm-up included
_PASSES = 20
LARGEST_BATCH = {"cuda": 1024, "cpu": 64}
#: seconds of measuring from which on engines are tried that take a minute to make ready
_ENGINES_S = 20.0
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
    brief: bool = False,
    progress: Callable[[Speed], None] = lambda section: None,
) -> Speed:
    """Time one forward pass at batch size 1 and at the largest that fits the device's memory and the budget.

    Args:
        model: finalised; it is moved to the device and not changed otherwise.
        inputs: positional inputs of one forward pass with batch size 1.
        budget_s: seconds of measuring, about; what converting takes comes on top.
        limit_s: see `convert`; for each batch size.
        sparse: are there sparse weights to convert? If not, only the dense time is taken.
        brief: at batch size 1 only.
        progress: gets the section as it stands after each batch size.

    Raises whatever the model raises on its example inputs.
    """
    notes = [] if sparse else ["a dense cell has nothing to convert"]
    section = Speed(
        type=device.type,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        threads=torch.get_num_threads(),
        brief=brief,
        rows=[],
        layers=[],
    )
    hows = set()
    with for_speed(), torch.no_grad():
        as_used, given, dtype = ready(model.to(device), inputs, device, notes)
        bench = Bench(as_used, given, device, budget_s, limit_s, sparse, notes)
        with evaluating(as_used):
            for batch in [1] if brief else bench.batches():
                timed = bench.largest(batch)
                if timed.row.batch in [row.batch for row in section.rows]:
                    continue
                section.rows.append(timed.row)
                section.layers += [{"batch": timed.row.batch, **layer} for layer in timed.layers]
                hows.add(timed.how)
                section.dtype, section.how = str(dtype).removeprefix("torch."), ", ".join(sorted(hows))
                section.notes = list(dict.fromkeys(notes))
                progress(section)
    return section


def batched(inputs: Sequence[Any], batch: int) -> Inputs:
    """The inputs with every tensor of one example repeated along its first dimension; plain numbers and text stay.

    Raises NotBatched for anything else.
    """
    return tuple(_repeated(value, batch) for value in inputs)


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


@dataclass
class Timed:
    """One batch size: its times, what ran where (the rows of convert's report), how it was timed."""

    row: SpeedRow
    layers: list[dict[str, Any]]
    how: str


@dataclass
class Bench:
    """A model that is ready to be timed, with its inputs of one example, on `device`; the rest as in `measure`."""

    model: nn.Module
    inputs: Inputs
    device: torch.device
    budget_s: float = 30.0
    limit_s: float | None = None
    sparse: bool = True
    notes: list[str] = field(default_factory=list)

    def batches(self) -> list[int]:
        """[1] and the largest power of two that fits memory and budget, as dense passes show."""
        batch, largest = 1, 1
        while batch <= LARGEST_BATCH.get(self.device.type, 1):
            try:
                seconds = second_pass(self.model, batched(self.inputs, batch), self.device)
            except NotBatched as error:
                self.notes.append(f"only batch size 1: {error}")
                break
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            largest = batch
            if 2 * seconds * _PASSES > self.budget_s / 2 or _nearly_full(self.device):
                break
            batch *= 2
        return [1] if largest == 1 else [1, largest]

    def largest(self, batch: int) -> Timed:
        """This batch size, or the largest smaller one at which both models fit the memory."""
        while True:
            try:
                return self.time(batch)
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                torch.cuda.empty_cache()
                batch //= 2

    def time(self, batch: int) -> Timed:
        """Both models in turns. A graph is never compared with plain calls: that would compare launches."""
        inputs = batched(self.inputs, batch)
        dense = self.engines(inputs) if self.device.type == "cpu" else {"dense": lambda: self.model(*inputs)}
        calls: dict[str, list[Callable[[], object]]] = {name: [run] for name, run in dense.items()}
        graph = compare(calls, self.device, budget_s=0.0)[next(iter(calls))].how == "cuda-graph"
        converted, layers = self.converted(inputs, graph) if self.sparse else (None, [])
        if converted is not None:
            calls["converted"] = [lambda: converted(*inputs)]
        times = compare(calls, self.device, budget_s=self.budget_s / 4, graph=graph)
        if len({timing.how for timing in times.values()}) > 1:
            times = compare(calls, self.device, budget_s=self.budget_s / 4, graph=False)
        other = times.pop("converted", None)
        name, best = min(times.items(), key=lambda one: one[1].us)
        if other is None and layers:
            self.notes.append(f"batch {batch}: no layer runs sparse, so that the converted model is the dense one")
            other = best
        ratio = None if other is None else round(best.us / other.us, 4)
        figures = {**_figures("dense", best, batch), **_figures("converted", other, batch)}
        if len(times) > 1:
            figures |= {"dense_by": name, "engines": {key: round(one.us / 1e3, 5) for key, one in times.items()}}
        return Timed(SpeedRow(batch=batch, ratio=ratio, **figures), layers, best.how)

    def engines(self, inputs: Inputs) -> dict[str, Callable[[], object]]:
        """The ways to run the dense model on a CPU that the budget allows to try."""
        from nmbench.kernels import engines

        runs, refused = engines.ready(
            self.model, inputs, [*engines.ENGINES] if self.budget_s >= _ENGINES_S else engines.QUICK
        )
        self.notes += [f"dense engine {name!r} was not measured: {why}" for name, why in refused.items()]
        return runs

    def converted(self, inputs: Inputs, graph: bool) -> tuple[nn.Module | None, list[dict[str, Any]]]:
        """(the converted model, or None where nothing in it is sparse; the report's rows)."""
        from nmbench.kernels.conversion.convert import convert

        launch: Literal["graph", "eager"] = "graph" if graph else "eager"
        budget_s = min(0.3, self.budget_s / 100)
        try:
            model, report = convert(self.model, inputs, launch=launch, budget_s=budget_s, limit_s=self.limit_s)
        except ValueError as error:  # it keeps to no pattern that a backend takes, for instance
            self.notes.append(f"not converted: {first_line(error)[:200]}")
            return None, []
        told = report.to_dict()
        self.notes += [told["summary"], *told["notes"]]
        if isinstance(self.model, Autocast):
            for row in told["rows"]:
                row["layers"] = [name.removeprefix("model.") for name in row["layers"]]
        return model if report.sparse else None, told["rows"]


def second_pass(model: nn.Module, inputs: Inputs, device: torch.device) -> float:
    """Seconds of the second of two passes: the first one compiles, tunes and allocates."""
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


def _figures(name: str, timing: Timing | None, batch: int) -> dict[str, Any]:
    if timing is None:
        return {f"{name}_ms": None, f"{name}_per_s": None}
    return {
        f"{name}_ms": round(timing.us / 1e3, 5),
        f"{name}_quartiles_ms": [round(timing.low / 1e3, 5), round(timing.high / 1e3, 5)],
        f"{name}_per_s": round(1e6 * batch / timing.us, 3),
    }


def answer(job: SpeedJob, tell: Callable[[Answer], None] = lambda so_far: None) -> Answer:
    """Load a finished cell's task, data and weights, and measure. `tell` gets what there is after each batch size."""
    so_far = Answer()

    def progress(section: Speed) -> None:
        so_far.speed = section
        tell(Answer(speed=section, unfinished=True))

    try:
        if job.brief:  # its own time says more than the clock, on a machine that is not idle
            torch.set_num_threads(1)
        model, inputs = finished(job, job.attempt_dir / WEIGHTS, job.weights)
        limit_s = (5.0 if job.brief else 60.0) + 4.0 * job.budget_s  # of converting
        section = measure(
            model,
            inputs,
            torch.device(job.device),
            budget_s=job.budget_s,
            limit_s=limit_s,
            sparse=not job.cell.is_dense,
            brief=job.brief,
            progress=progress,
        )
    except Exception as error:
        return so_far.cut_short(first_lines(error))
    return Answer(speed=section)
