"""`nm_mask`: which weights an N:M pattern keeps. Exact, and deterministic on ties (the lowest index is kept)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nmbench.sparsity.fast import native as _native
from nmbench.sparsity.memory import is_plain, local_part, numberless, opaque, watched, with_part
from nmbench.sparsity.pattern import Axis, NMPattern, PatternLike

#: up to this M all pairs are compared (a few elementwise operations that a compiler fuses); above it, a stable sort
_PAIRWISE_UP_TO = 8


class NonFiniteWeightError(ValueError):
    """A weight is NaN or infinite, so that "the n largest" has no meaning."""


@dataclass(frozen=True)
class Grouping:
    """Which dimension of a weight an N:M group runs along.

    dim: the reduction dimension: 1 for linear (out, in) and convolution (out, in/groups, k...), 0 for transposed
    convolution (in, out/groups, k...), any other where the caller says so. groups: into how many parts `dim` falls
    (transposed grouped convolution).
    """

    dim: int = 1
    groups: int = 1

    def logical(self, shape: torch.Size | tuple[int, ...], axis: Axis) -> tuple[int, int, int]:
        """(outer, size, inner) of a row-major weight of `shape`; M runs along `size`."""
        if axis == "kernel":
            return 1, math.prod(shape), 1
        outer = math.prod(shape[: self.dim]) * self.groups
        return outer, shape[self.dim] // self.groups, math.prod(shape[self.dim + 1 :])


def physical_layout(weight: Tensor, grouping: Grouping, axis: Axis) -> tuple[int, int, int] | None:
    """(outer, size, inner) of the memory of `weight`, or None if its strides do not allow that view."""
    if weight.is_contiguous():
        return grouping.logical(weight.shape, axis)
    if axis == "kernel" or weight.dim() not in (4, 5) or grouping.dim > 1:
        return None
    last = torch.channels_last if weight.dim() == 4 else torch.channels_last_3d
    if not weight.is_contiguous(memory_format=last):
        return None
    if grouping.dim == 0:  # dimension 0 is outermost here too, and the order inside `inner` does not matter
        return grouping.logical(weight.shape, axis)
    size = weight.shape[1] // grouping.groups
    return weight.numel() // size, size, 1


def torch_mask(weight: Tensor, pattern: NMPattern, grouping: Grouping) -> Tensor:
    """The mask in torch operations: bool, of the shape of `weight`. NaN is not looked for."""
    outer, size, inner = grouping.logical(weight.shape, pattern.axis)
    n, m = pattern.n, pattern.m
    magnitude = weight.detach().abs().reshape(outer, size, inner)
    if pad := -size % m:  # a short last group: -1 never beats a real magnitude
        filler = magnitude.new_full((outer, pad, inner), -1.0)
        magnitude = torch.cat([magnitude, filler], dim=1)
    grouped = magnitude.reshape(outer, -1, m, inner)
    keep = _keep_pairwise(grouped, n) if m <= _PAIRWISE_UP_TO else _keep_sorted(grouped, n)
    return keep.reshape(outer, -1, inner)[:, :size].reshape(weight.shape)


def _keep_pairwise(grouped: Tensor, n: int) -> Tensor:
    """grouped: (outer, groups, m, inner). An element stays if fewer than n others go before it."""
    m = grouped.shape[2]
    columns = grouped.unbind(dim=2)
    before: list[Tensor] = [torch.zeros_like(columns[0], dtype=torch.int8) for _ in range(m)]
    for j in range(m):
        for k in range(j + 1, m):
            first = columns[j] >= columns[k]
            before[k] = before[k] + first
            before[j] = before[j] + ~first
    return torch.stack([b < n for b in before], dim=2)


def _keep_sorted(grouped: Tensor, n: int) -> Tensor:
    order = torch.sort(grouped, dim=2, descending=True, stable=True).indices
    keep = torch.zeros_like(grouped, dtype=torch.bool)
    return keep.scatter_(2, order[:, :, :n], True)


def mask_of(weight: Tensor, pattern: NMPattern, grouping: Grouping) -> Tensor:
    """The mask of a weight on this rank, of its shape and memory format, by the compiled pass where it takes it.

    Raises NonFiniteWeightError; not where numbers cannot be seen (fake, traced, or inside a transform).
    """
    if watched() or not is_plain(weight) or numberless(weight):
        return torch_mask(weight, pattern, grouping)
    weight = weight.detach()
    mask = torch.empty_like(weight, dtype=torch.bool, memory_format=torch.preserve_format)
    if weight.numel() == 0:
        return mask
    layout = physical_layout(weight, grouping, pattern.axis)
    fits = _native.available_for(weight)
    if fits and layout is not None and mask.stride() == weight.stride():
        if _native.update(weight, mask, None, layout, pattern.n, pattern.m).nonfinite:
            raise NonFiniteWeightError("nm_mask: the weight holds NaN or infinity")
        return mask
    if not torch.isfinite(weight).all():
        raise NonFiniteWeightError("nm_mask: the weight holds NaN or infinity")
    if fits:
        return mask.copy_(mask_of(weight.contiguous(), pattern, grouping))
    return mask.copy_(torch_mask(weight, pattern, grouping))


def nm_mask(weight: Tensor, pattern: PatternLike, *, dim: int = 1, groups: int = 1) -> Tensor:
    """The N:M mask of `weight`: True for the n largest magnitudes of each group, ties keep the lowest index.

    Args:
        weight: (out, in), (out, in/groups, k...) or, with dim=0, (in, out/groups, k...); floating point.
        pattern: an NMPattern or its text, for instance "2:4".
        dim: the reduction dimension, 1, or 0 for transposed convolutions. Not looked at with axis="kernel".
        groups: of a grouped transposed convolution, whose dimension 0 holds `groups` separate parts.

    Returns:
        bool tensor of the shape, device and memory format of `weight`. A dimension that M does not divide ends
        in a short group, which keeps at most n like any other. A DTensor's mask is sharded as the weight is.

    Raises:
        NonFiniteWeightError (a ValueError): a weight is NaN or infinite.
        ValueError: bad pattern, dtype or shape; a quantised tensor; a DTensor whose shards cut groups.
    """
    p = NMPattern.parse(pattern)
    if opaque(weight):
        raise ValueError(f"nm_mask needs a plain tensor, not a {type(weight).__name__}: make the mask before wrapping")
    if not weight.dtype.is_floating_point:
        raise ValueError(f"nm_mask needs a floating-point weight, not {weight.dtype}")
    if dim not in (0, 1):
        raise ValueError(f"nm_mask: dim must be 0 or 1, not {dim!r}")
    if p.axis == "input" and weight.dim() <= dim:
        raise ValueError(f"nm_mask: a weight of shape {tuple(weight.shape)} has no dimension {dim} to group")
    if groups < 1 or (p.axis == "input" and weight.shape[dim] % groups):
        raise ValueError(f"nm_mask: {groups} groups do not divide dimension {dim} of shape {tuple(weight.shape)}")
    grouping = Grouping(dim, groups)
    return with_part(weight, mask_of(local_part(weight, grouping, p), p, grouping))
