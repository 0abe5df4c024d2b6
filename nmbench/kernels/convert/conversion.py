"""`convert`: a finalised model -> the same with sparse layers where they are faster, and what ran where.

convert         survey, one pass over the example inputs, a decision for each weight
apply_choices   the same from an earlier report, without inputs and without timing
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nmbench._util.devices import on
from nmbench._util.errors import first_line
from nmbench.contract.modes import evaluating
from nmbench.kernels import registry
from nmbench.kernels.backend import Backend, refused
from nmbench.kernels.cache import fingerprint, keeping, machine
from nmbench.kernels.choices import Choices
from nmbench.kernels.convert.bypass.by_name import bypassing, called
from nmbench.kernels.convert.bypass.unfold import Attentions, named_inside, seen_inside, unfold
from nmbench.kernels.convert.bypass.whole import judge, units
from nmbench.kernels.convert.choose import Decision, Layer, decide, sparse_layer
from nmbench.kernels.convert.layers import SparseLayer
from nmbench.kernels.convert.report import Report, Row
from nmbench.kernels.convert.survey import Surveyed, survey
from nmbench.kernels.convert.swap import swap
from nmbench.kernels.convert.watch import Call, Seen, Watched, watching
from nmbench.kernels.packed import PackedWeight
from nmbench.kernels.problem import linear_problem
from nmbench.sparsity import NMPattern
from nmbench.sparsity.attach import is_attached
from nmbench.sparsity.pattern import PatternLike
from nmbench.sparsity.select import Layers

__all__ = ["apply_choices", "convert"]

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]


def convert(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    pattern: PatternLike | None = None,
    layers: Layers = None,
    backends: Sequence[str | Backend] | None = None,
    launch: Literal["eager", "graph"] = "eager",
    budget_s: float = 0.3,
    limit_s: float | None = None,
    cache: bool = True,
    inplace: bool = False,
) -> tuple[nn.Module, Report]:
    """A model whose linear and convolution layers run sparse where that is faster on this machine, and a report.

    The example inputs are run once, in evaluation mode, to see with what shapes each layer is called. Each backend that
    takes a layer is compared with the dense result in float64, then timed against the dense layer on random numbers at
    those shapes; the fastest right one is taken if it needs at most 97 % of the dense time. A layer that is called with
    several shapes is decided by the total of one pass (of its eight most frequent shapes).

    Args:
        model: finalised; on the device and of the dtype that it will run with. Not compiled: compile what comes back.
        example_inputs: one tensor, the positional inputs, or a mapping of keyword inputs; tensors are moved to the
            model's device.
        pattern: that all weights should keep to; read off each weight if None.
        layers: which may be converted, as in `nmbench.sparsity.sparsify`.
        backends: which may be used, by name or your own; all that are installed if None.
        launch: "eager" times layers as plain calls, what Python takes included; "graph" as CUDA graphs, for a model
            that will be captured in one (or compiled with mode="reduce-overhead").
        budget_s: seconds of timing for a layer, its dense twin included. Equal layers are timed once. Kernels are
            compiled and tuned before, which is not in it.
        limit_s: after so many seconds no other layer is timed: the largest come first, and what was not reached stays
            dense and says so. Modules whose layers run sparse are still judged whole.
        cache: keep on disk what timing finds (choices, and the tiles of our kernels), and use what is there.
        inplace: change `model` itself, which saves memory; else it is left as it is.

    Returns:
        The model, for inference, and the report. On a machine where no backend applies all layers stay dense.

    Raises:
        ValueError: the model is still attached to a handle, is compiled, keeps to no pattern anywhere, or does not take
            the example inputs; a bad pattern, layer name or backend.
    """
    parsed = _checked(model, pattern)
    if launch not in ("eager", "graph"):
        raise ValueError(f"launch {launch!r}: use 'eager' or 'graph'")
    chosen, notes = _backends(backends)
    model = model if inplace else _copied(model)
    found = survey(model, parsed, layers)
    if not any(one.pattern for one in found):
        _refuse(found, parsed)
    seen = _run(model, example_inputs, [m for one in found if one.pattern for m in one.modules])
    attentions = seen_inside(model, seen)
    found = unfold(found, attentions, model)
    device = next((one.weight.device for one in found if one.pattern), torch.device("cpu"))
    versions = {name: backend.version for name, backend in registry.backends().items()}
    with keeping(cache):
        choices = Choices(device)
        try:
            decided: dict[int, tuple[Row, dict[nn.Module, nn.Module]]] = {}
            until = None if limit_s is None else time.monotonic() + limit_s
            by_size = sorted(range(len(found)), key=lambda i: 0 if until is None else -found[i].weight.numel())
            for i in by_size:
                decided[i] = _decided(found[i], seen.layers, chosen, choices, launch, budget_s, until, versions)
            rows, replaced = _judged(
                model, [decided[i] for i in range(len(found))], attentions, seen, choices, launch, budget_s, versions
            )
        finally:
            choices.write()
    notes += [choices.note] if choices.note else []
    if device.type == "cpu" and not _any_on_cpu(chosen):
        notes.append("no sparse backend applies on this CPU: every layer stays dense, and results are identical")
    return swap(model, replaced), Report(tuple(rows), tuple(notes), machine(device), fingerprint(device), launch)


def apply_choices(
    model: nn.Module,
    choices: Mapping[str, Mapping[str, Any]],
    *,
    backends: Sequence[Backend] = (),
    inplace: bool = False,
) -> nn.Module:
    """The model with the layers of `choices` (a report's) replaced; nothing is run or timed.

    backends: your own that the choices name, if they are not installed. Where a backend cannot run on this machine its
    layer holds the weight dense, and `print(model)` says why.
    Raises ValueError if a layer or its backend is not there, or a weight breaks the pattern.
    """
    from nmbench.kernels.convert.rebuild import layer_from

    _checked(model, None)
    model = model if inplace else _copied(model)
    attentions, projections = named_inside(model, choices)
    modules = {**dict(model.named_modules()), **projections}
    made: dict[int, PackedWeight] = {}
    replaced: dict[nn.Module, nn.Module] = {}
    for name, told in choices.items():
        module = modules.get(name, model if name == type(model).__name__ else None)
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            raise ValueError(f"choices: the model has no linear or convolution layer {name!r}")
        replaced[module] = layer_from(module, name, told, module.weight.detach(), made, backends)
    return swap(model, attentions.replacing(replaced))


def _copied(model: nn.Module) -> nn.Module:
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(model)
    except RuntimeError as error:  # it holds a tensor of a graph, as torch.nn.utils.weight_norm does
        said = (str(error).strip().splitlines() or ["no message"])[0]
        raise ValueError(f"the model cannot be copied; inplace=True converts it as it is\n{said}") from error


# -- before -------------------------------------------------------------------------------------------------------
def _checked(model: nn.Module, pattern: PatternLike | None) -> NMPattern | None:
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            which = f"this model is compiled ({name})" if name else "this model is compiled"
            raise ValueError(f"{which}: convert it first, then compile what comes back")
    if any(isinstance(module, SparseLayer) for module in model.modules()):
        raise ValueError("this model is converted already: convert the dense one, or take what convert gave back")
    if is_attached(model):
        raise ValueError("this model is still sparsified: call handle.finalize() first, which bakes the masks in")
    return None if pattern is None else NMPattern.parse(pattern)


def _backends(asked: Sequence[str | Backend] | None) -> tuple[list[Backend], list[str]]:
    if asked is not None:
        if isinstance(asked, str | Backend):
            raise ValueError(f"backends: give a list, [{asked if isinstance(asked, str) else asked.name!r}]")
        if classes := [one for one in asked if not isinstance(one, str | Backend)]:
            raise ValueError(f"backends: {classes[0]!r} is neither a name nor an instance of nmbench.kernels.Backend")
        chosen = [registry.load(one) if isinstance(one, str) else one for one in asked]
        return [one for one in chosen if one.name != "dense"], []
    found = registry.backends().values()
    notes = [f"backend {one.name!r} cannot be used: {one.reason}" for one in found if one.backend is None]
    return [one.backend for one in found if one.backend is not None and one.name != "dense"], notes


def _any_on_cpu(backends: list[Backend]) -> bool:
    """Would any of them take a plain layer here?"""
    kinds = [torch.float32, torch.bfloat16, torch.float16]
    cpu, pattern = torch.device("cpu"), NMPattern(2, 4)
    plain = [linear_problem((128, 128), (64, 128), pattern, dtype, cpu) for dtype in kinds]
    try:
        return any(refused(backend, problem) is None for backend in backends for problem in plain)
    except Exception:
        return True  # a broken one, of which the rows tell


def _refuse(found: list[Surveyed], pattern: NMPattern | None) -> None:
    if not found:
        raise ValueError("the model has no linear or convolution layer to convert")
    first = next((one for one in found if one.reason.startswith("violates")), found[0])
    kept = f"keeps to {pattern}" if pattern else "keeps to an N:M pattern"
    hint = "" if pattern else "\nFor groups along a kernel say so: pattern='2:4@kernel'"
    raise ValueError(
        f"no layer of the model {kept}: was its handle finalised? {' = '.join(first.names)}: {first.reason}{hint}"
    )


# -- the example inputs -------------------------------------------------------------------------------------------
def _run(model: nn.Module, example_inputs: Inputs, modules: list[nn.Module]) -> Watched:
    """One pass. Raises ValueError, with what the model said, if it does not take the inputs.

    modules: with weights to be tried; attention is watched as a whole, as is what goes past its layers.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, example_inputs)
    if not isinstance(inputs, Tensor | Mapping | Sequence) or isinstance(inputs, str):
        raise ValueError(f"example_inputs: a tensor, a sequence or a mapping is needed, not {type(inputs).__name__}")
    args = () if isinstance(inputs, Mapping) else (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    kwargs = dict(inputs) if isinstance(inputs, Mapping) else {}
    wholes = bypassing(model)
    layers = [m for m in modules if not isinstance(m, nn.MultiheadAttention)]
    with evaluating(model), called(model), torch.no_grad(), watching(layers, wholes) as seen:
        try:
            model(*args, **kwargs)
        except Exception as error:
            given = ", ".join(map(_told, [*args, *kwargs.values()]))
            raise ValueError(f"the model does not take the example inputs ({given}):\n{first_line(error)}") from error
    return seen


def _told(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


# -- modules that went past their layers --------------------------------------------------------------------------
def _judged(
    model: nn.Module,
    decided: list[tuple[Row, dict[nn.Module, nn.Module]]],
    attentions: Attentions,
    seen: Watched,
    choices: Choices,
    launch: str,
    budget_s: float,
    versions: dict[str, str],
) -> tuple[list[Row], dict[nn.Module, nn.Module]]:
    """The rows, and what is to be replaced, without the layers of modules that are better off as they were."""
    swaps = attentions.replacing({module: made for _, one in decided for module, made in one.items()})
    undone: dict[nn.Module, str] = {}
    for name, unit, whole in units(model, seen.wholes):
        inner = set(unit.modules())
        inner |= {part for attention, parts in attentions.items() if attention in inner for part in parts.values()}
        if inner & swaps.keys() and (why := judge(unit, swaps, whole, choices, launch, budget_s, versions)):
            undone.update(dict.fromkeys(inner, f"{name}: {why}"))
    rows, kept = [], {}
    for row, one in decided:
        reason = next((undone[module] for module in one if module in undone), "")
        rows.append(replace(row, winner="dense", settings={}, reason=reason) if reason else row)
        kept.update({} if reason else one)
    return rows, attentions.replacing(kept)


# -- one weight ---------------------------------------------------------------------------------------------------
def _decided(
    one: Surveyed,
    seen: dict[int, Seen],
    backends: list[Backend],
    choices: Choices,
    launch: str,
    budget_s: float,
    until: float | None,
    versions: dict[str, str],
) -> tuple[Row, dict[nn.Module, nn.Module]]:
    calls: Counter[Call] = Counter()
    for module in one.modules:
        calls.update(seen[id(module)].calls if id(module) in seen else {})
    reason = one.reason or _unseen(one, seen, calls)
    about = {
        "layers": one.names,
        "shape": tuple(one.weight.shape),
        "dtype": str(one.weight.dtype).removeprefix("torch."),
        "pattern": str(one.pattern or ""),
    }
    if reason:
        return Row(**about, reason=reason), {}  # type: ignore[arg-type]
    layer = Layer(one.modules, one.pattern, calls)  # type: ignore[arg-type]
    plain = torch.autocast(one.weight.device.type, enabled=False)
    with on(one.weight.device), torch.inference_mode(False), torch.no_grad(), plain:
        decision = decide(layer, backends, choices, launch, budget_s, versions, until)
    made = {m: sparse_layer(decision.packed, m) for m in layer.modules} if decision.packed else {}
    return Row(**about, **_outcome(layer, decision)), dict(made)  # type: ignore[arg-type]


def _unseen(one: Surveyed, seen: dict[int, Seen], calls: Counter[Call]) -> str:
    """Why what was seen in the pass rules a weight out, or ""."""
    if any(seen[id(module)].by_name for module in one.modules):
        return "its weight is read by name, past the layer (as torch's fused encoder and some attentions do)"
    if not calls:
        return "not called on the example inputs"
    if any(call.autocast for call in calls):
        return "runs under autocast: convert a model whose weights have the dtype that it casts to"
    if other := [call.dtype for call in calls if call.dtype != one.weight.dtype]:
        return f"called with inputs of {str(other[0]).removeprefix('torch.')}"
    return "" if all(torch.Size(call.shape).numel() for call in calls) else "called with empty inputs"


def _outcome(layer: Layer, decision: Decision) -> dict[str, Any]:
    rows: Counter[int] = Counter()
    for call, count in layer.calls.items():
        rows[layer.problem(call).rows] += count
    choice = decision.choice
    told: dict[str, Any] = {"rows": dict(rows), "candidates": decision.candidates, "reason": decision.reason}
    if choice is not None:
        told |= {"winner": choice.winner, "dense_us": choice.times["dense"], "sparse_us": choice.times[choice.best]}
        told |= {"settings": dict(choice.settings) if choice.winner != "dense" else {}, "cached": decision.cached}
    return told
