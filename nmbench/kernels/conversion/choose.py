"""Which backend runs a layer: every one that takes its weight is checked against float64, then timed against dense."""

import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from nmbench._util.errors import first_line
from nmbench.kernels import timing
from nmbench.kernels.backend import Backend, Kind, Problem, Refusal, refused
from nmbench.kernels.cache import Choice, Choices
from nmbench.kernels.conversion.accuracy import allowed, reference, worst
from nmbench.kernels.conversion.layers import Layer, sparse_layer, symmetric_padding
from nmbench.kernels.conversion.report import Candidates, Row
from nmbench.kernels.conversion.swap import replica
from nmbench.kernels.conversion.watch import Call
from nmbench.kernels.packed import PackedWeight
from nmbench.kernels.prepacked import prepack

#: a sparse layer must take at most this part of the dense time
CLEAR_WIN = 0.97
#: oneDNN's own product with a reordered weight: the dense time is the better of it and the module's
_PREPACKED = "dense, prepacked"
_CHECKED = 64  # rows at both ends of a product that are compared with float64


@dataclass(frozen=True)
class Trial:
    """What all comparisons of a conversion share.

    choices: those of earlier ones, and where new ones go. launch, budget_s: see `convert`. versions: of the backends,
    for the keys of choices. until: of time.monotonic(), after which no other layer is timed. held: bytes of the model.
    """

    choices: Choices
    launch: Literal["eager", "graph"]
    budget_s: float
    versions: Mapping[str, str]
    until: float | None = None
    held: int | None = None

    @property
    def over(self) -> bool:
        """Has the time limit been reached?"""
        return self.until is not None and time.monotonic() > self.until

    def times(self, closures: Mapping[str, Sequence[Callable[[], object]]], device: torch.device) -> dict[str, float]:
        """Microseconds of one call of each."""
        with torch.inference_mode():
            timed = timing.compare(closures, device, budget_s=self.budget_s, graph=self.launch == "graph")
        return {name: one.us for name, one in timed.items()}


def decide(layer: Layer, backends: Sequence[Backend], trial: Trial, row: Row) -> tuple[Row, PackedWeight | None]:
    """`row` with the fastest backend that is right, if it clearly beats dense, and what the layer then runs with."""
    candidates: Candidates = {}
    row = replace(row, candidates=candidates)
    able = _able(layer, backends, candidates)
    if not able:
        return replace(row, reason=_every_reason(candidates)), None
    key = _key(layer, able, trial)
    choice = trial.choices.get(key)
    cached = choice is not None and (
        choice.winner == "dense"
        or (choice.winner in able and _wrong(layer, able[choice.winner].tuned(choice.settings)) is None)
    )
    if not cached:
        if trial.over:
            return replace(row, reason="not tried: the time limit was reached before"), None
        choice = _timed(layer, able, trial, candidates)
    if choice is None:
        return replace(row, reason=_every_reason(candidates)), None
    if not cached:
        trial.choices.put(key, choice)
    dense_us, sparse_us = choice.times["dense"], choice.times[choice.best]
    candidates.update({name: us for name, us in choice.times.items() if name != "dense"})
    row = replace(row, winner=choice.winner, dense_us=dense_us, sparse_us=sparse_us, cached=cached)
    if choice.winner == "dense":
        return replace(
            row, reason=f"slower: {choice.best} would take {sparse_us / dense_us:.2f} of the dense time"
        ), None
    return replace(row, settings=dict(choice.settings)), able[choice.winner].tuned(choice.settings)


def _able(layer: Layer, backends: Sequence[Backend], candidates: Candidates) -> dict[str, PackedWeight]:
    """Those that take the problem at every shape, and the weight; the others' reasons go to `candidates`."""
    able = {}
    problems = [layer.problem(call) for call, _ in layer.most]
    for backend in backends:
        refusal = next((why for problem in problems if (why := refused(backend, problem))), None)
        if refusal is None:
            try:
                able[backend.name] = PackedWeight(layer.weight, problems[0], backend)
            except ValueError as error:  # which says what is wrong with the weight
                refusal = Refusal(str(error), Kind.PATTERN)
            except Exception as error:
                refusal = Refusal(f"packing failed: {first_line(error)}", Kind.FAULT)
        if refusal is not None:
            candidates[backend.name] = refusal
    return able


def _key(layer: Layer, able: Mapping[str, PackedWeight], trial: Trial) -> str:
    module, problem = layer.modules[0], layer.problem(layer.most[0][0])
    return Choices.key(
        kind=problem.kind,
        weight=problem.weight,
        calls=[[call.shape, call.channels_last, count] for call, count in layer.most],
        bias=module.bias is not None,
        dtype=str(problem.dtype),
        pattern=str(problem.pattern),
        convolution=[problem.stride, problem.padding, problem.dilation, problem.groups],
        backends={name: trial.versions.get(name, "") for name in sorted(able)},
        launch=trial.launch,
        cold=trial.held is None or trial.held > timing.last_cache(),
        threads=torch.get_num_threads(),
    )


def _every_reason(candidates: Candidates) -> str:
    """ "cusparselt, cutlass: unsupported dtype float32; triton: ...", or the one reason that all have."""
    by: dict[str, list[str]] = defaultdict(list)
    for name, why in candidates.items():
        alike = isinstance(why, Refusal) and why.kind is Kind.NEEDS_GPU
        by[Kind.NEEDS_GPU.value if alike else str(why)].append(name)
    if len(by) == 1:
        return next(iter(by))
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in by.items())


# -- right? -------------------------------------------------------------------------------------------------------
def _input(layer: Layer, call: Call) -> Tensor:
    weight = layer.modules[0].weight
    draw = torch.Generator(weight.device).manual_seed(0)  # and nothing from the user's own generators
    x = torch.randn(call.shape, device=weight.device, generator=draw).to(weight.dtype)
    x = x.unsqueeze(0) if weight.dim() == 4 and x.dim() == 3 else x
    return x.to(memory_format=torch.channels_last) if call.channels_last else x


def _ends(x: Tensor, dims: int) -> Tensor:
    """The first and last rows (images, if dims is 4)."""
    flat = x if dims == 4 else x.reshape(-1, x.shape[-1])
    most = 1 if dims == 4 else _CHECKED
    return flat if len(flat) <= 2 * most else torch.cat([flat[:most], flat[-most:]])


def _wrong(layer: Layer, packed: PackedWeight) -> Refusal | None:
    """None if the layer's numbers are right at every shape, else what is wrong."""
    module = layer.modules[0]
    run = sparse_layer(packed, module)
    for call, _ in layer.most:
        x = _input(layer, call)
        try:
            got, dense = run(x), module(x)
        except Exception as error:
            return Refusal(f"failed: {first_line(error)}", Kind.FAULT)
        if got.shape != dense.shape or got.dtype != dense.dtype:
            given, wanted = f"{tuple(got.shape)} {got.dtype}", f"{tuple(dense.shape)} {dense.dtype}"
            return Refusal(f"wrong result: {given}, not {wanted}", Kind.FAULT)
        dims = 4 if isinstance(module, nn.Conv2d) else 2
        x, got, dense = (_ends(t, dims) for t in (x, got, dense))
        right = _float64(module, x, layer.problem(call))
        terms = module.weight[0].numel()
        off, most = worst(got, right), allowed(right, worst(dense, right), got.dtype, terms)
        if off > most:
            return Refusal(f"wrong numbers: off by {off:.3g}, of which {most:.3g} is allowed", Kind.FAULT)
    return None


def _float64(module: nn.Linear | nn.Conv2d, x: Tensor, problem: Problem) -> Tensor:
    if isinstance(module, nn.Conv2d) and symmetric_padding(module) is None:
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = nn.functional.pad(x.double(), list(module._reversed_padding_repeated_twice), mode=mode)
    return reference(x, module.weight.detach(), module.bias, problem)


# -- fast? --------------------------------------------------------------------------------------------------------
def _timed(layer: Layer, able: Mapping[str, PackedWeight], trial: Trial, candidates: Candidates) -> Choice | None:
    """The choice by time; None if no candidate is right."""
    tuned: dict[str, PackedWeight] = {}
    for name, packed in able.items():
        for settings in _variants(layer, packed):
            candidate = packed.clone().tuned(settings)
            if (wrong := _wrong(layer, candidate)) is not None:
                candidates.setdefault(name, wrong)
            else:
                tuned[f"{name} {dict(settings)}" if settings else name] = candidate
    if not tuned:
        return None
    times: dict[str, float] = defaultdict(float)
    for call, count in layer.most:
        for name, us in _times(layer, tuned, call, trial).items():
            times[name] += us * count
    best = min(tuned, key=lambda name: times[name])
    by_backend = {"dense": times["dense"]}
    for name, candidate in tuned.items():
        backend = candidate.backend.name
        by_backend[backend] = min(times[name], by_backend.get(backend, float("inf")))
    won = times[best] <= CLEAR_WIN * times["dense"]
    backend = tuned[best].backend.name
    return Choice(backend if won else "dense", backend, tuned[best].problem.settings, by_backend)


def _variants(layer: Layer, packed: PackedWeight) -> list[tuple[tuple[str, int], ...]]:
    """The settings that the backend offers for the input that comes most often; its default if it cannot say."""
    x = _input(layer, layer.most[0][0])
    try:
        return packed.backend.variants(x, packed.tensors(), layer.modules[0].bias, packed.problem) or [()]
    except Exception:
        return [()]


def _times(layer: Layer, tuned: Mapping[str, PackedWeight], call: Call, trial: Trial) -> dict[str, float]:
    """Microseconds of one call of each, and of the best dense way, as modules: what Python costs is in both."""
    module = layer.modules[0]
    x = _input(layer, call)
    moved = x.nbytes  # the output is one buffer, which the allocator hands out again
    most = _affordable(module, x, trial)
    rotated = functools.partial(timing.rotated, device=x.device, most=most, held=trial.held)
    closures: dict[str, list[Callable[[], object]]] = {}
    dense = rotated(lambda: replica(module, {}, apart=True), moved + module.weight.nbytes)
    closures["dense"] = [functools.partial(copy, x.clone()) for copy in dense]
    made = [prepack(layer.weight, layer.problem(call)) for _ in dense] if _pads_alike(module) else []
    if reordered := [one for one in made if one is not None]:
        closures[_PREPACKED] = [functools.partial(run, x.clone(), held, module.bias) for held, run in reordered]
    for name, packed in tuned.items():
        copies = rotated(packed.clone, moved + packed.nbytes)
        closures[name] = [functools.partial(sparse_layer(copy, module), x.clone()) for copy in copies]
    times = trial.times(closures, x.device)
    times["dense"] = min(times["dense"], times.pop(_PREPACKED, math.inf))
    return times


def _affordable(module: nn.Module, x: Tensor, trial: Trial) -> int:
    """How many buffers may take turns; on a GPU a call is too short to matter."""
    if x.device.type == "cuda":
        return timing.affordable(0.0, trial.budget_s)
    with torch.inference_mode():
        module(x)
        start = time.perf_counter()
        module(x)
    return timing.affordable(time.perf_counter() - start, trial.budget_s)


def _pads_alike(module: nn.Linear | nn.Conv2d) -> bool:
    return isinstance(module, nn.Linear) or symmetric_padding(module) is not None
