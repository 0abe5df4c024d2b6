"""Converted models on disk, and converted layers made again without timing.

save_converted   one safetensors file: all tensors, N:M weights compressed, and which backend runs which layer
load_converted   the same back into a model of the same architecture, on this machine
layer_from       one layer from its choice
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nmbench.kernels import registry
from nmbench.kernels.backend import Backend, Problem
from nmbench.kernels.convert.bypass.unfold import named_inside
from nmbench.kernels.convert.choose import Layer, sparse_layer
from nmbench.kernels.convert.layers import SparseLayer
from nmbench.kernels.convert.swap import swap
from nmbench.kernels.convert.watch import Call
from nmbench.kernels.nmtensor import compress, decompress
from nmbench.kernels.packed import PARTS, PackedWeight, from_parts
from nmbench.records import weights
from nmbench.sparsity import NMPattern

__all__ = ["layer_from", "load_converted", "save_converted"]

_KEY = "nmbench.converted"


def save_converted(path: Path | str, model: nn.Module) -> None:
    """Write a converted model's tensors and choices to one safetensors file, whole or not at all."""
    layers: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, SparseLayer):
            packed = module.packed
            layers[name] = {
                "backend": packed.backend.name,
                "pattern": str(packed.problem.pattern),
                "settings": dict(packed.settings),
                "tuned_on": packed.tuned_on,
                "input": list(packed.problem.input),
            }
    weights.save(model, path, {_KEY: json.dumps(layers)})


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
            layers = _layers(json.loads((file.metadata() or {})[_KEY]))
            stored = {name: [file.get_tensor(_key(name, part)) for part in PARTS] for name in layers}
            names = {*layers, *(key.rpartition(".")[0] for key in file.keys())}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no converted model that can be read ({type(error).__name__}: {error})"
        ) from error
    model = model if inplace else copy.deepcopy(model)
    attentions, projections = named_inside(model, names)
    modules = {**dict(model.named_modules()), **projections}
    made: dict[int, PackedWeight] = {}
    replaced: dict[nn.Module, nn.Module] = {}
    for name, told in layers.items():
        module = modules.get(name)
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            raise ValueError(f"{path}: the model has no linear or convolution layer {name!r}")
        try:
            whole = from_parts(stored[name], tuple(module.weight.shape))
        except ValueError as error:
            raise ValueError(f"{path} does not fit the model: {name}: {error}") from error
        weight = decompress(whole).to(module.weight.device, module.weight.dtype)
        replaced[module] = layer_from(module, name, told, weight, made, backends, without=True)
    model = swap(model, attentions.replacing(replaced))
    try:
        weights.load(model, path)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model: {str(error).strip().splitlines()[-1].strip()}") from error
    return model


def _key(layer: str, part: str) -> str:
    return f"{layer}.packed.{part}".removeprefix(".")  # the model may itself be the layer


def layer_from(
    module: nn.Linear | nn.Conv2d,
    name: str,
    told: Mapping[str, Any],
    weight: Tensor,
    made: dict[int, PackedWeight],
    backends: Sequence[Backend] = (),
    *,
    without: bool = False,
) -> nn.Module:
    """The sparse layer in place of `module`; layers that share a parameter share what `made` has of it.

    told: backend, pattern and settings, as in `Report.choices`. weight: baked. backends: asked before those that are
    installed. without: if there is no such backend dense runs; else a ValueError says so.
    """
    packed = made.get(id(module.weight))
    if packed is None:
        pattern = NMPattern.parse(told["pattern"])
        compress(weight, pattern, name)  # says which group breaks the pattern
        shape = told.get("input") or _any_input(module)
        call = Call(tuple(shape), weight.dtype)
        problem = Layer((module,), pattern, {}).problem(call)  # type: ignore[arg-type]
        packed = PackedWeight(weight, problem, _backend(told["backend"], backends, without))
        settings = tuple((str(key), int(value)) for key, value in dict(told.get("settings", {})).items())
        made[id(module.weight)] = packed.tuned(settings, str(told.get("tuned_on", "")))
    return sparse_layer(made[id(module.weight)], module)


def _layers(told: Any) -> dict[str, dict[str, Any]]:
    """Raises ValueError if it is not what `save_converted` writes."""
    for name, one in told.items() if isinstance(told, dict) else [("", told)]:
        right = isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("backend", "pattern"))
        if not right or not isinstance(one.get("settings", {}), dict):
            raise ValueError(f"its entry {name!r} names no backend and pattern")
    return dict(told)


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


class _Absent(Backend):
    """A backend that a file names and that cannot be had here: it refuses everything, so that dense runs."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why  # type: ignore[misc]

    def refusal(self, problem: Problem) -> str:
        """Why it is not there."""
        return self.why

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """Never asked."""
        raise ValueError(self.why)

    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """Never asked."""
        raise ValueError(self.why)

    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """Never asked."""
        raise ValueError(self.why)


def _any_input(module: nn.Linear | nn.Conv2d) -> tuple[int, ...]:
    """The smallest input that the layer takes; a converted layer takes any other as well."""
    if isinstance(module, nn.Linear):
        return (1, module.in_features)
    sizes = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return (1, module.in_channels, *sizes)
