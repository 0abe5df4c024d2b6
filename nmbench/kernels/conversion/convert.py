"""`convert`: a finalised model -> the same with sparse layers where they are faster, and what ran where.

Survey, one pass over the example inputs, a decision for each weight, and a verdict on modules that went past theirs.
"""

import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nmbench._util.devices import on
from nmbench._util.errors import first_line
from nmbench.contract.modes import evaluating
from nmbench.kernels import registry
from nmbench.kernels.backend import Backend, Kind, refused
from nmbench.kernels.cache import Choices, fingerprint, keeping, machine
from nmbench.kernels.conversion.agreement import Agreement, agreement, shake
from nmbench.kernels.conversion.bypass.by_name import bypassing, called
from nmbench.kernels.conversion.bypass.unfold import Attentions, seen_inside, unfold
from nmbench.kernels.conversion.bypass.whole import judge, units
from nmbench.kernels.conversion.choose import Trial, decide
from nmbench.kernels.conversion.gain import gain
from nmbench.kernels.conversion.layers import Layer, sparse_layer
from nmbench.kernels.conversion.prepare import finish, prepare
from nmbench.kernels.conversion.remaining import candidates, remaining
from nmbench.kernels.conversion.report import Report, Row
from nmbench.kernels.conversion.straight import linear_twins
from nmbench.kernels.conversion.survey import Surveyed, survey
from nmbench.kernels.conversion.swap import checked, copied, exchanged, swap
from nmbench.kernels.conversion.watch import Arguments, Call, Seen, Watched, watching
from nmbench.kernels.problem import dtype_name, linear_problem
from nmbench.sparsity import NMPattern
from nmbench.sparsity.allocation import Patterns, PatternsLike, read
from nmbench.sparsity.select import Layers

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
#: of one weight: its row of the report, and what stands in place of the modules that use it
Decided = tuple[Row, dict[nn.Module, nn.Module]]


def convert(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    pattern: PatternsLike | None = None,
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
    several shapes is decided by the total of one pass (of its eight most frequent shapes). A `Conv1D` of transformers
    comes back as a linear layer, whose weight lies as (out, in).

    On a CPU the model is put in channels last, BatchNorm is folded into convolutions, layers that stay dense get
    weights reordered for oneDNN where that is faster, and ReLU and residual additions are fused into layers (where
    torch.fx can follow the module that calls them, which becomes a GraphModule). What comes back gave the dense
    model's result on the example inputs to 1e-4 in no more time than the faster of that model and the same one so
    prepared; or it is that model.

    Args:
        model: finalised; on the device and of the dtype that it will run with. Not compiled: compile what comes back.
        example_inputs: one tensor, the positional inputs, or a mapping of keyword inputs; tensors are moved to the
            model's device.
        pattern: that all weights should keep to, or each its own, as `sparsify` takes it; read off each if None.
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
    checked(model)
    parsed = None if pattern is None else read(pattern)
    if launch not in ("eager", "graph"):
        raise ValueError(f"launch {launch!r}: use 'eager' or 'graph'")
    chosen, notes = _backends(backends)
    given = _arguments(model, example_inputs)
    dense, model = model, model if inplace else copied(model)
    model = exchanged(model, twins := linear_twins(model))
    surveyed = survey(model, parsed, layers)
    if not any(one.pattern for one in surveyed):
        exchanged(model, {linear: given for given, linear in twins.items()})
        _refuse(surveyed, parsed)
    device = next((one.weight.device for one in surveyed if one.pattern), torch.device("cpu"))
    whole = device.type == "cpu" and any(backend.fuses for backend in chosen)
    right, shaken, folded = None, None, 0
    if whole:
        right = _result(model if inplace else dense, given)
        shaken = _result(model, shake(given)) if inplace else None  # there is no dense model to ask afterwards
        folded = prepare(model)
        for backend in chosen:
            backend.prepare({one.pattern for one in surveyed if one.pattern})
    tried = [m for one in surveyed if one.pattern for m in one.modules]
    seen = _run(model, given, [*tried, *(candidates(model) if whole else [])])
    attentions = seen_inside(model, seen)
    surveyed = unfold(surveyed, attentions, model)
    versions = {name: backend.version for name, backend in registry.backends().items()}
    with keeping(cache):
        choices = Choices(device)
        held = sum(parameter.nbytes for parameter in model.parameters())
        until = None if limit_s is None else time.monotonic() + limit_s
        trial = Trial(choices, launch, budget_s, versions, until, held)
        try:
            decided: dict[int, Decided] = {}
            for i in _order(surveyed, trial):
                decided[i] = _decided(surveyed[i], seen.layers, chosen, trial)
            rows, replaced = _judged(model, [decided[i] for i in range(len(surveyed))], attentions, seen, trial)
            others = remaining(model, replaced, seen, trial) if whole and replaced else {}
        finally:
            choices.write()
    notes += [choices.note] if choices.note else []
    if device.type == "cpu" and not _any_on_cpu(chosen):
        notes.append("no sparse backend applies on this CPU: every layer stays dense, and results are identical")
    if whole and replaced:
        told = gain(model, replaced, others, given, trial, None if inplace else dense)
        notes.append(told.words)
        rows, replaced = (_stay(rows, told.words), {}) if told.lost else (rows, replaced)
    model = swap(model, replaced | others)
    if whole and not replaced and not inplace:
        model = copied(dense)
    elif whole:
        notes += [done] if (done := finish(model, folded, len(others))) else []
        again = functools.partial(_result, dense, shake(given)) if shaken is None else lambda: shaken
        agreed = _agreed(model, given, right, again)
        notes.append(agreed.words)
        if agreed.wrong:
            if inplace:
                raise RuntimeError(f"{agreed.wrong}, in place: load the model again, and please report this")
            model, rows = copied(dense), _stay(rows, agreed.wrong)
    return model, Report(tuple(rows), tuple(notes), machine(device), fingerprint(device), launch)


def _agreed(model: nn.Module, given: Arguments, right: Any, again: Callable[[], Any]) -> Agreement:
    """Of the converted model with the dense one; one that fails is wrong, too."""
    try:
        return agreement(right, _result(model, given), again)
    except ValueError as error:
        return Agreement(None, f"the converted model fails: {first_line(error.__cause__ or error)}")


def _stay(rows: list[Row], why: str) -> list[Row]:
    """The rows of a model that stays dense."""
    return [replace(row, winner="dense", settings={}, reason=row.reason or why) for row in rows]


def _order(surveyed: list[Surveyed], trial: Trial) -> list[int]:
    """In the model's order; under a time limit the largest weights first."""
    return sorted(range(len(surveyed)), key=lambda i: 0 if trial.until is None else -surveyed[i].weight.numel())


def _backends(asked: Sequence[str | Backend] | None) -> tuple[list[Backend], list[str]]:
    if asked is not None:
        if isinstance(asked, str | Backend):
            raise ValueError(f"backends: give a list, [{asked if isinstance(asked, str) else asked.name!r}]")
        if classes := [one for one in asked if not isinstance(one, str | Backend)]:
            raise ValueError(f"backends: {classes[0]!r} is neither a name nor an instance of nmbench.kernels.Backend")
        chosen = [registry.load(one) if isinstance(one, str) else one for one in asked]
        return [one for one in chosen if one.name != "dense"], []
    installed = registry.backends().values()
    notes = [f"backend {one.name!r} cannot be used: {one.reason}" for one in installed if one.backend is None]
    return [one.backend for one in installed if one.backend is not None and one.name != "dense"], notes


def _any_on_cpu(backends: list[Backend]) -> bool:
    """Would any of them take a plain layer here?"""
    kinds = [torch.float32, torch.bfloat16, torch.float16]
    cpu, pattern = torch.device("cpu"), NMPattern(2, 4)
    plain = [linear_problem((128, 128), (64, 128), pattern, dtype, cpu) for dtype in kinds]
    return any(refused(backend, problem) is None for backend in backends for problem in plain)


def _refuse(surveyed: list[Surveyed], pattern: Patterns | None) -> None:
    if not surveyed:
        raise ValueError("the model has no linear or convolution layer to convert")
    first = next((one for one in surveyed if one.reason.kind is Kind.PATTERN), surveyed[0])
    kept = f"keeps to {pattern}" if pattern else "keeps to an N:M pattern"
    hint = "" if pattern else "\nFor groups along a kernel say so: pattern='2:4@kernel'"
    raise ValueError(
        f"no layer of the model {kept}: was its handle finalised? {' = '.join(first.names)}: {first.reason}{hint}"
    )


# -- the example inputs -------------------------------------------------------------------------------------------
def _arguments(model: nn.Module, example_inputs: Inputs) -> Arguments:
    """On the model's device. Raises ValueError for what is no inputs."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, example_inputs)
    if not isinstance(inputs, Tensor | Mapping | Sequence) or isinstance(inputs, str):
        raise ValueError(f"example_inputs: a tensor, a sequence or a mapping is needed, not {type(inputs).__name__}")
    args = () if isinstance(inputs, Mapping) else (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    return Arguments(args, dict(inputs) if isinstance(inputs, Mapping) else {})


def _result(model: nn.Module, given: Arguments) -> Any:
    """Of one pass, in evaluation mode; a model that writes to its inputs writes to copies.

    Raises ValueError, with what the model said, if it does not take the inputs.
    """
    own = given.own()
    with evaluating(model), torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        try:
            return model(*own.args, **own.kwargs)
        except Exception as error:
            said = ", ".join(map(_shown, [*given.args, *given.kwargs.values()]))
            raise ValueError(f"the model does not take the example inputs ({said}):\n{first_line(error)}") from error


def _run(model: nn.Module, given: Arguments, modules: list[nn.Module]) -> Watched:
    """What is seen in one pass.

    modules: with weights to be tried; attention is watched as a whole, as is what goes past its layers.
    """
    layers = [m for m in modules if not isinstance(m, nn.MultiheadAttention)]
    wholes = bypassing(model)  # as it is now, before they are called
    with called(model), watching(layers, wholes) as seen:
        _result(model, given)
    return seen


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{dtype_name(value.dtype)} {tuple(value.shape)}"
    return type(value).__name__


# -- modules that went past their layers --------------------------------------------------------------------------
def _judged(
    model: nn.Module, decided: list[Decided], attentions: Attentions, seen: Watched, trial: Trial
) -> tuple[list[Row], dict[nn.Module, nn.Module]]:
    """The rows, and what is to be replaced, without the layers of modules that are better off as they were."""
    swaps = attentions.replacing({module: made for _, one in decided for module, made in one.items()})
    undone: dict[nn.Module, str] = {}
    for name, unit, whole in units(model, seen.wholes):
        inner = set(unit.modules())
        inner |= {part for attention, parts in attentions.items() if attention in inner for part in parts.values()}
        if inner & swaps.keys() and (why := judge(unit, swaps, whole, trial)):
            undone.update(dict.fromkeys(inner, f"{name}: {why}"))
    rows, kept = [], {}
    for row, one in decided:
        reason = next((undone[module] for module in one if module in undone), "")
        rows.append(replace(row, winner="dense", settings={}, reason=reason) if reason else row)
        kept.update({} if reason else one)
    return rows, attentions.replacing(kept)


# -- one weight ---------------------------------------------------------------------------------------------------
def _decided(one: Surveyed, seen: Mapping[int, Seen], backends: list[Backend], trial: Trial) -> Decided:
    calls: Counter[Call] = Counter()
    for module in one.modules:
        calls.update(seen[id(module)].calls if id(module) in seen else {})
    row = Row(one.names, tuple(one.weight.shape), dtype_name(one.weight.dtype), pattern=str(one.pattern or ""))
    if reason := one.reason or _unseen(one, seen, calls):
        return replace(row, reason=str(reason)), {}
    layer = Layer(one.modules, one.pattern, calls)  # type: ignore[arg-type]
    plain = torch.autocast(one.weight.device.type, enabled=False)
    with on(one.weight.device), torch.inference_mode(False), torch.no_grad(), plain:
        row, packed = decide(layer, backends, trial, row)
    rows: Counter[int] = Counter()
    for call, count in calls.items():
        rows[layer.problem(call).rows] += count
    return replace(row, rows=dict(rows)), {} if packed is None else {m: sparse_layer(packed, m) for m in layer.modules}


def _unseen(one: Surveyed, seen: Mapping[int, Seen], calls: Counter[Call]) -> str:
    """Why what was seen in the pass rules a weight out, or ""."""
    if any(seen[id(module)].by_name for module in one.modules):
        return "its weight is read by name, past the layer (as torch's fused encoder and some attentions do)"
    if not calls:
        return "not called on the example inputs"
    if any(call.autocast for call in calls):
        return "runs under autocast: convert a model whose weights have the dtype that it casts to"
    if other := [call.dtype for call in calls if call.dtype != one.weight.dtype]:
        return f"called with inputs of {dtype_name(other[0])}"
    return "" if all(torch.Size(call.shape).numel() for call in calls) else "called with empty inputs"
