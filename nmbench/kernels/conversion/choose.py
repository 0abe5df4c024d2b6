"""Which backend runs a layer: every one that takes its weight is checked against float64, then timed against dense.

Decision  what came of it
Trial     what all comparisons of a conversion share
decide    the choice
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from nmbench._util.errors import first_line
from nmbench.kernels import timing
from nmbench.kernels.backend import Backend, Kind, Problem, Refusal, refused
from nmbench.kernels.cache import Choice, Choices
from nmbench.kernels.conversion.accuracy import allowed, reference, worst
from nmbench.kernels.conversion.layers import Layer, sparse_layer, symmetric_padding
from nmbench.kernels.conversion.watch import Call
from nmbench.kernels.packed import PackedWeight

__all__ = ["CLEAR_WIN", "Decision", "Trial", "decide"]

#: a sparse layer must take at most this part of the dense time
CLEAR_WIN = 0.97
_CHECKED = 64  # rows at both ends of a product that are compared with float64


@dataclass
class Decision:
    """packed: what the layer runs with, None if it stays dense for `reason`. candidates: microseconds, or why not."""

    packed: PackedWeight | None = None
    reason: str = ""
    choice: Choice | None = None
    cached: bool = False
    candidates: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """What all comparisons of a conversion share.

    choices: those of earlier ones, and where new ones go. launch, budget_s: see `convert`. versions: of the backends,
    for the keys of choices. until: of time.monotonic(), after which no other layer is timed.
    """

    choices: Choices
    launch: Literal["eager", "graph"]
    budget_s: float
    versions: Mapping[str, str]
    until: float | None = None

    @property
    def over(self) -> bool:
        """Has the time limit been reached?"""
        return self.until is not None and time.monotonic() > self.until

    def times(self, closures: Mapping[str, Sequence[Callable[[], object]]], device: torch.device) -> dict[str, float]:
        """Microseconds of one call of each."""
        with torch.inference_mode():
            timed = timing.compare(closures, device, budget_s=self.budget_s, graph=self.launch == "graph")
        return {name: one.us for name, one in timed.items()}


def decide(layer: Layer, backends: Sequence[Backend], trial: Trial) -> Decision:
    """The fastest backend that is right, if it clearly beats dense."""
    decision = Decision()
    able = _able(layer, backends, decision)
    if not able:
        decision.reason = _every_reason(decision)
        return decision
    key = _key(layer, able, trial)
    kept = trial.choices.get(key)
    if kept is not None and (kept.winner == "dense" or _kept_is_right(layer, able, kept)):
        decision.choice, decision.cached = kept, True
    elif trial.over:
        decision.reason = "not tried: the time limit was reached before"
        return decision
    else:
        decision.choice = _timed(layer, able, trial, decision)
        if decision.choice is None:
            decision.reason = _every_reason(decision)
            return decision
        trial.choices.put(key, decision.choice)
    chosen = decision.choice
    decision.candidates.update({name: us for name, us in chosen.times.items() if name != "dense"})
    if chosen.winner == "dense":
        share = chosen.times[chosen.best] / chosen.times["dense"]
        decision.reason = f"slower: {chosen.best} would take {share:.2f} of the dense time"
    else:
        decision.packed = able[chosen.winner].tuned(chosen.settings)
    return decision


def _able(layer: Layer, backends: Sequence[Backend], decision: Decision) -> dict[str, PackedWeight]:
    """Those that take the problem at every shape, and the weight; the others' reasons go to the decision."""
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
            decision.candidates[backend.name] = refusal
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
    )


def _every_reason(decision: Decision) -> str:
    """ "cusparselt, cutlass: unsupported dtype float32; triton: ...", or the one reason that all have."""
    by: dict[str, list[str]] = defaultdict(list)
    for name, why in decision.candidates.items():
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
        off, most = worst(got, right), allowed(right, worst(dense, right), got.dtype)
        if off > most:
            return Refusal(f"wrong numbers: off by {off:.3g}, of which {most:.3g} is allowed", Kind.FAULT)
    return None


def _float64(module: nn.Linear | nn.Conv2d, x: Tensor, problem: Problem) -> Tensor:
    if isinstance(module, nn.Conv2d) and symmetric_padding(module) is None:
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = nn.functional.pad(x.double(), list(module._reversed_padding_repeated_twice), mode=mode)
    return reference(x, module.weight.detach(), module.bias, problem)


def _kept_is_right(layer: Layer, able: dict[str, PackedWeight], kept: Choice) -> bool:
    return kept.winner in able and _wrong(layer, able[kept.winner].tuned(kept.settings)) is None


# -- fast? --------------------------------------------------------------------------------------------------------
def _timed(layer: Layer, able: Mapping[str, PackedWeight], trial: Trial, decision: Decision) -> Choice | None:
    """The choice by time; None if no candidate is right."""
    tuned: dict[str, PackedWeight] = {}
    for name, packed in able.items():
        for settings in _variants(layer, packed):
            candidate = packed.clone().tuned(settings)
            if (wrong := _wrong(layer, candidate)) is not None:
                decision.candidates.setdefault(name, wrong)
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
    """Microseconds of one call of each, and of the dense layer, as modules: what Python costs is in both."""
    module = layer.modules[0]
    x = _input(layer, call)
    moved = x.nbytes  # the output is one buffer, which the allocator hands out again
    weight = module.weight.detach()
    closures: dict[str, list[Callable[[], object]]] = {}
    dense = timing.rotated(lambda: _with_weight(module, weight), moved + weight.nbytes, x.device)
    closures["dense"] = [functools.partial(copy, x.clone()) for copy in dense]
    for name, packed in tuned.items():
        copies = timing.rotated(packed.clone, moved + packed.nbytes, x.device)
        closures[name] = [functools.partial(sparse_layer(copy, module), x.clone()) for copy in copies]
    return trial.times(closures, x.device)


def _with_weight(module: nn.Linear | nn.Conv2d, weight: Tensor) -> nn.Module:
    """A layer like `module` with memory of its own."""
    other = module.__class__.__new__(module.__class__)
    other.__dict__ = {**module.__dict__, "_parameters": dict(module._parameters)}
    other._parameters["weight"] = nn.Parameter(weight.clone(), requires_grad=False)
    return other
