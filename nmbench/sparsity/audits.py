"""`audit`: does a set of weights keep an N:M pattern? From the weights alone, trusting no mask and no handle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity.mask import Grouping
from nmbench.sparsity.pattern import NMPattern, PatternLike
from nmbench.sparsity.select import LayerInfo, Layers, choose, find_weights

__all__ = ["AuditReport", "LayerAudit", "audit", "groups_over"]


@dataclass(frozen=True)
class LayerAudit:
    """One weight: how dense it is, and how many of its groups hold more than N non-zeros (0 for dense layers)."""

    name: str
    shape: tuple[int, ...]
    role: str
    reason: str
    weights: int
    nonzeros: int
    groups: int
    violations: int

    @property
    def density(self) -> float:
        """Non-zeros / weights."""
        return self.nonzeros / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class AuditReport:
    """All layers. `ok` means that no group of a layer that should be sparse breaks the pattern."""

    pattern: NMPattern
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
    def ok(self) -> bool:
        """No violation."""
        return self.violations == 0

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


def _audit_one(info: LayerInfo, weight: Tensor, pattern: NMPattern) -> LayerAudit:
    groups, over = groups_over(weight, pattern, info.grouping) if info.sparse else (0, 0)
    nonzeros = int(torch.count_nonzero(weight.detach()))
    return LayerAudit(info.name, info.shape, info.role, info.reason, weight.numel(), nonzeros, groups, over)


def _lines_of(layers: Any) -> list[LayerInfo] | None:
    """`layers` as LayerInfo lines, or None if it is a choice by name."""
    if layers is None or callable(layers) or isinstance(layers, str):
        return None
    items = list(layers)
    return items if items and all(isinstance(item, LayerInfo) for item in items) else None


def _from_state_dict(state: Mapping[str, Any], pattern: NMPattern, layers: Any) -> list[LayerInfo]:
    """Without a model nothing says what a tensor is: every floating weight of 2 or more dimensions, dimension 1."""
    names = {k: v for k, v in state.items() if isinstance(v, Tensor) and v.dim() >= 2 and v.is_floating_point()}
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
    pattern: PatternLike,
    layers: Layers | Iterable[LayerInfo] = None,
) -> AuditReport:
    """Check weights against an N:M pattern.

    Args:
        model_or_state_dict: a model, or name -> tensor. A model that is still training holds its dense weights
            and will not pass: finalize() first.
        pattern: an NMPattern or its text.
        layers: which layers must keep it: `handle.layers`, names, a callable (models only), or None for every
            candidate (in a state dict: every floating tensor of two or more dimensions, grouped along dimension 1).

    Raises:
        ValueError: a bad pattern, or a layer that is not there.
    """
    p = NMPattern.parse(pattern)
    once = layers is None or callable(layers) or isinstance(layers, str)
    layers = layers if once else list(layers)  # type: ignore[arg-type, assignment] # an iterator is read only once
    lines = _lines_of(layers)
    if isinstance(model_or_state_dict, nn.Module):
        tensors: Mapping[str, Any] = dict(model_or_state_dict.named_parameters(remove_duplicate=False))
        if lines is None:
            lines = choose(find_weights(model_or_state_dict), p, layers)  # type: ignore[arg-type]
    else:
        tensors = model_or_state_dict
        if lines is None:
            lines = _from_state_dict(tensors, p, layers)
    missing = [line.name for line in lines if line.name not in tensors]
    if missing:
        raise ValueError(f"audit: there is no weight {missing[0]!r}")
    return AuditReport(p, tuple(_audit_one(line, tensors[line.name], p) for line in lines))
