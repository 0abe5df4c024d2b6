"""Does a set of weights keep an N:M pattern?"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity.allocation import Allocation, Patterns, PatternsLike, read
from nmbench.sparsity.attach import parameter_home
from nmbench.sparsity.mask import Grouping
from nmbench.sparsity.memory import local_part
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.products import SLACK, WeightWatch, ordinary_forward
from nmbench.sparsity.select import UNDONE, LayerInfo, Layers, choose, find_weights


class Outcome(StrEnum):
    """What an audit says of all layers together."""

    OK = "ok"
    BROKEN = "some groups hold more than N non-zeros"
    UNDONE = "a layer's own forward makes its sparse weight dense"
    NOTHING = "nothing to check"


@dataclass(frozen=True)
class LayerAudit:
    """One weight: how dense it is, and how many of its groups hold more than N non-zeros (0 for dense layers).

    undone, pattern: see LayerInfo. groups, violations: along the outputs too, where a transposable mask was asked for;
        where rows share columns (V:N:M), with the tiles, and those that use more columns.
    Of a sharded weight all numbers are those of this rank's part.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    reason: str
    weights: int
    nonzeros: int
    groups: int
    violations: int
    undone: bool = False
    pattern: NMPattern | None = None

    @property
    def density(self) -> float:
        """Non-zeros / weights."""
        return self.nonzeros / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class AuditReport:
    """All layers. `ok` means that some layer is sparse, none breaks the pattern, and none was chosen in vain."""

    pattern: Patterns
    layers: tuple[LayerAudit, ...]

    @property
    def sparse(self) -> tuple[LayerAudit, ...]:
        """The layers that the pattern was checked on."""
        return tuple(layer for layer in self.layers if layer.role == "sparse")

    @property
    def violations(self) -> int:
        """Groups that hold more than N non-zeros, over all layers."""
        return sum(layer.violations for layer in self.layers)

    @property
    def outcome(self) -> Outcome:
        """The worst that is true of a layer."""
        if self.violations:
            return Outcome.BROKEN
        if any(layer.undone for layer in self.layers):
            return Outcome.UNDONE
        return Outcome.OK if self.sparse else Outcome.NOTHING

    @property
    def ok(self) -> bool:
        """Is the pattern kept, on something?"""
        return self.outcome is Outcome.OK

    @property
    def weights(self) -> int:
        """Number of weights in the sparse layers."""
        return sum(layer.weights for layer in self.sparse)

    @property
    def nonzeros(self) -> int:
        """Number of non-zero weights in the sparse layers."""
        return sum(layer.nonzeros for layer in self.sparse)

    @property
    def density(self) -> float:
        """Non-zeros / weights over the sparse layers."""
        return self.nonzeros / self.weights if self.weights else 0.0


def groups_over(weight: Tensor, pattern: NMPattern, grouping: Grouping) -> tuple[int, int]:
    """(number of groups, number of groups with more than N non-zeros) of one weight. NaN counts as non-zero."""
    outer, size, inner = grouping.logical(weight.shape, pattern.axis)
    nonzero = (weight.detach() != 0).reshape(outer, size, inner)
    nonzero = torch.cat([nonzero, nonzero.new_zeros((outer, -size % pattern.m, inner))], dim=1)
    counts = nonzero.reshape(outer, -1, pattern.m, inner).sum(2)
    return counts.numel(), int((counts > pattern.n).sum())


def _audit_one(info: LayerInfo, weight: Tensor, pattern: Patterns) -> LayerAudit:
    groups = over = 0
    if info.sparse:
        own = info.own(pattern)
        weight = local_part(weight, info.grouping, own)
        counts = [groups_over(weight, own, grouping) for grouping in (info.grouping, info.outputs) if grouping]
        counts += [info.shared.over(weight)] if info.shared else []
        groups, over = (sum(column) for column in zip(*counts, strict=True))
    nonzeros = int(torch.count_nonzero(weight.detach()))
    told = (info.name, info.shape, info.role, info.reason)
    return LayerAudit(*told, weight.numel(), nonzeros, groups, over, info.undone, info.pattern)


def _tensors(model: nn.Module, lines: list[LayerInfo]) -> dict[str, Tensor]:
    """The parameters by name, and what is computed in place of those that torch's prune, parametrize... took."""
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    for name in {line.name for line in lines} - tensors.keys():
        path, _, key = name.rpartition(".")
        with contextlib.suppress(AttributeError):
            module = model.get_submodule(path)
            owner, kept_as = parameter_home(module, key) or (None, "")
            tensors[name] = getattr(module, kept_as if owner is module else key)
    return tensors


def multiplied(model: nn.Module, example_inputs: tuple[Any, ...], layers: Iterable[LayerInfo]) -> list[LayerInfo]:
    """`layers` of a finalised model, after one look at what really multiplies.

    A weight that is sparse, but takes part in a product as something denser that the model computes from it (weight
    standardisation, LoRA inside forward, a fusion at eval), becomes dense, with the reason. Weights that took part in
    no product stay as they are.

    Args:
        model: left in the mode it was in.
        example_inputs: positional inputs of one forward pass.
        layers: `handle.layers`.
    """
    lines = list(layers)
    every = _tensors(model, lines)
    weights = {line.name: every[line.name].detach() for line in lines if line.sparse and line.name in every}
    own = {name: int(torch.count_nonzero(weight)) / max(1, weight.numel()) for name, weight in weights.items()}
    with ordinary_forward(model), WeightWatch(weights) as watch:
        model(*example_inputs)
    dense = {name for name, density in watch.densities.items() if density > own[name] + SLACK}
    return [replace(i, role="dense", reason=UNDONE, undone=True) if i.name in dense else i for i in lines]


def _lines_of(layers: Any) -> list[LayerInfo] | None:
    """`layers` as LayerInfo lines, or None if it is a choice by name."""
    if layers is None or callable(layers) or isinstance(layers, (str, Mapping)):
        return None
    items = list(layers)
    return items if items and all(isinstance(item, LayerInfo) for item in items) else None


def _from_state_dict(state: Mapping[str, Any], pattern: Patterns, layers: Any) -> list[LayerInfo]:
    """Without a model nothing says what a tensor is: every floating weight of 2 or more dimensions, dimension 1."""
    names = {k: v for k, v in state.items() if isinstance(v, Tensor) and v.dim() >= 2 and v.is_floating_point()}
    if isinstance(pattern, Allocation):
        raise ValueError("audit of a state dict by a pattern for each layer needs layers=handle.layers, or the model")
    if layers is not None:
        if callable(layers):
            raise ValueError("audit of a state dict takes layers by name or as a handle's layers, not a callable")
        wanted = [layers] if isinstance(layers, str) else list(layers)
        missing = [name for name in wanted if name not in names and f"{name}.weight" not in names]
        if missing:
            raise ValueError(f"audit: the state dict has no weight {missing[0]!r}")
        names = {k: v for k, v in names.items() if k in wanted or k.removesuffix(".weight") in wanted}
    lines = []
    for name, weight in names.items():
        short = Grouping().logical(weight.shape, pattern.axis)[1] < pattern.m
        reason = f"its grouped dimension is below M = {pattern.m}" if short else ""
        lines.append(LayerInfo(name, tuple(weight.shape), "dense" if short else "sparse", reason))
    return lines


def audit(
    model_or_state_dict: nn.Module | Mapping[str, Any],
    pattern: PatternsLike,
    layers: Layers | Iterable[LayerInfo] = None,
) -> AuditReport:
    """Check weights against an N:M pattern.

    Args:
        model_or_state_dict: a model, or name -> tensor. A model that is still training holds its dense weights
            and will not pass: finalize() first.
        pattern: as `sparsify` takes it.
        layers: which layers must keep it: `handle.layers`, names, a callable (models only), or None for every
            candidate (in a state dict: every floating tensor of two or more dimensions, grouped along dimension 1).

    Raises:
        ValueError: a bad pattern, or a layer that is not there.
    """
    p = read(pattern)
    once = layers is None or callable(layers) or isinstance(layers, (str, Mapping))
    layers = layers if once else list(layers)  # type: ignore[arg-type, assignment] # an iterator is read only once
    lines = _lines_of(layers)
    if isinstance(model_or_state_dict, nn.Module):
        if lines is None:
            lines = choose(find_weights(model_or_state_dict), p, layers)  # type: ignore[arg-type]
        tensors: Mapping[str, Any] = _tensors(model_or_state_dict, lines)
    else:
        tensors = model_or_state_dict
        if lines is None:
            lines = _from_state_dict(tensors, p, layers)
    missing = [line.name for line in lines if line.name not in tensors]
    if missing:
        raise ValueError(f"audit: there is no weight {missing[0]!r}")
    return AuditReport(p, tuple(_audit_one(line, tensors[line.name], p) for line in lines))
