"""Converted models on disk, and converted layers made again without timing."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from nmbench._util.files import loads
from nmbench.kernels import registry
from nmbench.kernels.backend import Backend, Kind, Problem, Refusal
from nmbench.kernels.backends.dense import Dense
from nmbench.kernels.conversion.bypass.unfold import named_inside
from nmbench.kernels.conversion.layers import Layer, SparseLayer, sparse_layer
from nmbench.kernels.conversion.prepare import finish, is_prepared, prepare
from nmbench.kernels.conversion.reordered import reorder, reordered_names
from nmbench.kernels.conversion.straight import linear_twins
from nmbench.kernels.conversion.swap import checked, copied, exchanged, swap
from nmbench.kernels.conversion.watch import Call
from nmbench.kernels.nmtensor import compress
from nmbench.kernels.packed import PackedWeight
from nmbench.records import weights
from nmbench.sparsity import NMPattern

_KEY = "nmbench.converted"
_PREPARED = "nmbench.prepared"


class Choice(BaseModel):
    """What runs a layer: as `save_converted` writes it, and, but for its input, as a report's `choices` say it."""

    model_config = ConfigDict(strict=True)

    backend: str
    pattern: str
    settings: dict[str, int] = {}
    tuned_on: str = ""
    input: list[Annotated[int, Field(ge=0, lt=2**31)]] = []


def save_converted(path: Path | str, model: nn.Module) -> None:
    """Write a converted model's tensors and choices to one safetensors file, whole or not at all."""
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, SparseLayer):
            packed = module.packed
            chosen = Choice(
                backend=packed.backend.name,
                pattern=str(packed.problem.pattern),
                settings=dict(packed.settings),
                tuned_on=packed.tuned_on,
                input=list(packed.problem.input),
            )
            layers[name] = chosen.model_dump()
    prepared = {_PREPARED: json.dumps(reordered_names(model))} if is_prepared(model) else {}
    weights.save(model, path, {_KEY: json.dumps(layers)} | prepared)


def load_converted(
    path: Path | str, model: nn.Module, *, backends: Sequence[Backend] = (), inplace: bool = False
) -> nn.Module:
    """A dense model of the saved one's architecture -> the converted model, with the file's weights.

    model: its own weights do not matter; where they are, and their dtypes, are those of the result. backends: your own
    that the file names, if they are not installed. A backend that cannot run here, or is not there, is replaced by the
    dense product (`print(model)` says so). Nothing is timed: on another GPU `convert` may choose otherwise.
    Raises ValueError if the file is broken, was not written by `save_converted`, or does not fit the model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            layers = _choices(loads(about[_KEY]))
            names = {*layers, *(key.rpartition(".")[0] for key in file.keys())}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no converted model that can be read ({type(error).__name__}: {error})"
        ) from error
    model = _straight(model if inplace else copied(model))
    folded = prepare(model) if _PREPARED in about else None
    model = _rebuilt(model, names, layers, backends, f"{path}", blank=True)
    model = swap(model, reorder(model, about.get(_PREPARED, "[]")))
    if folded is not None:
        finish(model, folded)
    try:
        weights.load(model, path)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model: {str(error).strip().splitlines()[-1].strip()}") from error
    return model


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
    checked(model)
    read = _choices(choices)
    return _rebuilt(_straight(model if inplace else copied(model)), choices, read, backends, "choices")


def _straight(model: nn.Module) -> nn.Module:
    """As `convert` had it, in place."""
    return exchanged(model, linear_twins(model))


def _rebuilt(
    model: nn.Module,
    names: Iterable[str],
    choices: Mapping[str, Choice],
    backends: Sequence[Backend],
    source: str,
    blank: bool = False,
) -> nn.Module:
    """`model`, in place, with the layers of `choices` replaced.

    names: of layers, those of attention among them. blank: with zeros for weights, which are to be loaded.
    """
    attentions, projections = named_inside(model, names)
    modules = {type(model).__name__: model, **dict(model.named_modules()), **projections}
    packed: dict[int, PackedWeight] = {}
    replaced: dict[nn.Module, nn.Module] = {}
    for name, choice in choices.items():
        module = modules.get(name)
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            raise ValueError(f"{source}: the model has no linear or convolution layer {name!r}")
        replaced[module] = _layer(module, name, choice, packed, backends, blank)
    return swap(model, attentions.replacing(replaced))


def _layer(
    module: nn.Linear | nn.Conv2d,
    name: str,
    choice: Choice,
    packed: dict[int, PackedWeight],
    backends: Sequence[Backend],
    blank: bool,
) -> nn.Module:
    """The sparse layer in place of `module`.

    packed: by the id of a parameter, of layers that share it. backends: asked before those that are installed. blank:
    see `_rebuilt`; dense runs then where there is no such backend, else a ValueError says so.
    """
    if id(module.weight) not in packed:
        pattern, weight = NMPattern.parse(choice.pattern), module.weight.detach()
        weight = torch.zeros_like(weight) if blank else weight
        compress(weight, pattern, name)  # says which group breaks the pattern
        shape = choice.input or _any_input(module)
        problem = Layer((module,), pattern, Counter()).problem(Call(tuple(shape), weight.dtype))
        made = PackedWeight(weight, problem, _backend(choice.backend, backends, blank))
        packed[id(module.weight)] = made.tuned(tuple(choice.settings.items()), choice.tuned_on)
    return sparse_layer(packed[id(module.weight)], module)


def _choices(held: Any) -> dict[str, Choice]:
    """Raises ValueError where an entry says not how a layer runs."""
    if not isinstance(held, Mapping):
        raise ValueError("its entries are no object")
    made = {}
    for name, choice in held.items():
        try:
            made[name] = Choice.model_validate(choice)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"the entry {name!r}: {where}: {first['msg']}") from error
    return made


def _backend(name: str, own: Sequence[Backend], without: bool) -> Backend:
    """One of `own`, or an installed one, or, with `without`, what stands for one that is not there."""
    given = next((one for one in own if one.name == name), None)
    if given is not None:
        return given
    try:
        return registry.load(name)
    except ValueError as error:
        if not without:
            raise
        return _Absent(name, str(error))


class _Absent(Dense):
    """A backend that a file names and that cannot be had here: it refuses everything, so that dense runs."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why  # type: ignore[misc]

    def refusal(self, problem: Problem) -> Refusal:
        """Why it is not there."""
        return Refusal(self.why, Kind.MACHINE)


def _any_input(module: nn.Linear | nn.Conv2d) -> tuple[int, ...]:
    """The smallest input that the layer takes; a converted layer takes any other as well."""
    if isinstance(module, nn.Linear):
        return (1, module.in_features)
    sizes = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return (1, module.in_channels, *sizes)
