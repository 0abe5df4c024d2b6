"""Compressed storage of an N:M weight: the N values of each group and their positions, packed to bits.

Entries are in the row-major order of a two-dimensional view of the weight: (out, in) of a linear layer; (out, kh * kw *
in) of a convolution, the input channels of a kernel position side by side, as a matrix product reads them; with
axis="kernel" the flattened weight as one row. A short last group is stored like a whole one.

On a GPU both ways are one pass of a Triton kernel, where nmbench.sparsity.fast.fused has them available; torch code of
equal results is behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench._util.devices import on
from nmbench.sparsity import NMPattern
from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.pattern import MAX_M, PatternLike

#: integers of the same width: gathers and comparisons know these for every dtype, and keep each bit
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class NMTensor:
    """A weight of `shape` that keeps to `pattern`.

    Attributes:
        values: (groups * N,), the weight's dtype; in a group by rising position. A group with fewer than N non-zeros
            is filled up with zeros, each at a position of its own.
        positions: (ceil(groups * N * bits / 8),), uint8; entry e is in the bits [e * bits, (e + 1) * bits), lowest
            first, where bits = ceil(log2 M).
    """

    values: Tensor
    positions: Tensor
    pattern: NMPattern
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of values and positions: groups * N * itemsize + ceil(groups * N * ceil(log2 M) / 8)."""
        return self.values.numel() * self.values.element_size() + self.positions.numel()

    @property
    def dense_bytes(self) -> int:
        """Bytes of the weight stored dense."""
        return torch.Size(self.shape).numel() * self.values.element_size()

    def to(self, device: torch.device | str) -> NMTensor:
        """The same on `device`."""
        return NMTensor(self.values.to(device), self.positions.to(device), self.pattern, self.shape)


def compress(weight: Tensor, pattern: PatternLike, name: str = "weight") -> NMTensor:
    """Store a baked weight, (out, in, ...), by `pattern`; of any dtype, fp8 included, every bit kept.

    NaN counts as non-zero, both zeros as zero (a negative zero comes back as zero). `name` is for the error message.
    Raises ValueError if a group has more than N non-zeros, saying which, or if the weight is not a dense tensor of at
    least one dimension (two with axis="input").
    """
    parsed = NMPattern.parse(pattern)
    if weight.layout != torch.strided or weight.is_quantized or weight.dim() < (2 if parsed.axis == "input" else 1):
        raise ValueError(f"{name}: a plain dense weight of two or more dimensions is needed, not {_what(weight)}")
    if (made := _in_one_pass(weight, parsed)) is not None:
        return made
    view = _view(weight.detach(), parsed)
    groups = _grouped(view.contiguous().view(INTEGERS[weight.element_size()]), parsed)
    nonzero = _grouped(view != 0, parsed)
    if bool((wrong := nonzero.sum(1) > parsed.n).any()):
        first = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name}: {_place(first, weight, parsed)} has {int(nonzero[first].sum())} non-zeros, not {parsed}"
        )
    # non-zeros first, then the lowest free positions: a stable sort keeps both in rising order
    chosen = torch.sort((~nonzero).to(torch.int8), dim=1, stable=True).indices[:, : parsed.n].sort(1).values
    values = groups.gather(1, chosen) * nonzero.gather(1, chosen)
    flat = values.to(groups.dtype).reshape(-1).contiguous().view(weight.dtype)
    return NMTensor(flat, _pack(chosen.reshape(-1), parsed.index_bits), parsed, tuple(weight.shape))


def decompress(stored: NMTensor) -> Tensor:
    """The weight, contiguous, of the shape and dtype that `compress` was given."""
    pattern, values = stored.pattern, stored.values
    if _has_a_kernel(values, stored.shape, pattern):
        from nmbench.kernels.triton.decompress import decompress as fused

        with on(values.device):
            return fused(values, stored.positions, pattern, stored.shape)
    bits = values.view(INTEGERS[values.element_size()]).reshape(-1, pattern.n)
    where = _unpack(stored.positions, values.numel(), pattern.index_bits).reshape(-1, pattern.n)
    groups = bits.new_zeros((len(bits), pattern.m)).scatter_(1, where, bits)
    rows, width, back = layout(stored.shape, pattern)
    dense = groups.reshape(rows, -(-width // pattern.m) * pattern.m)[:, :width].contiguous().view(values.dtype)
    return dense.reshape(back).movedim(-1, 1).contiguous() if len(back) > 2 else dense.reshape(stored.shape)


def check(name: str, stored: NMTensor) -> None:
    """A kernel trusts these numbers. Raises ValueError where they do not fit pattern and shape."""
    pattern, shape = stored.pattern, stored.shape
    if len(shape) < (2 if pattern.axis == "input" else 1) or not all(isinstance(i, int) and i >= 0 for i in shape):
        raise ValueError(f"{name}: {shape} is no shape of a weight")
    for key, length in zip(("values", "positions"), lengths(shape, pattern), strict=True):
        part = getattr(stored, key)
        if part.dim() != 1 or len(part) != length:
            raise ValueError(f"{name}: {key} of shape {tuple(part.shape)}, not ({length},) as {pattern} of {shape} has")
    if stored.positions.dtype != torch.uint8:
        raise ValueError(f"{name}: positions of {stored.positions.dtype}, not torch.uint8")


def lengths(shape: tuple[int, ...], pattern: NMPattern) -> tuple[int, int]:
    """(values, bytes of positions) that a weight of `shape` is stored as."""
    rows, width, _ = layout(shape, pattern)
    entries = rows * -(-width // pattern.m) * pattern.n
    return entries, -(-entries * pattern.index_bits // 8)


def _has_a_kernel(tensor: Tensor, shape: tuple[int, ...], pattern: NMPattern) -> bool:
    if not _fused.available(tensor.device):
        return False
    from nmbench.kernels.triton.compress import takes

    return takes(tensor.dtype, shape, pattern)


def _in_one_pass(weight: Tensor, pattern: NMPattern) -> NMTensor | None:
    """By the kernel; None where there is none, or where the weight breaks the pattern, which torch code then words."""
    if not _has_a_kernel(weight, tuple(weight.shape), pattern):
        return None
    from nmbench.kernels.triton.compress import CLEAN, packs
    from nmbench.kernels.triton.compress import compress as fused

    if not packs(pattern):
        return None
    with on(weight.device):
        values, positions, wrong = fused(weight, pattern)
        kept = int(wrong) == CLEAN
    return NMTensor(values, positions, pattern, tuple(weight.shape)) if kept else None


def layout(shape: tuple[int, ...], pattern: NMPattern) -> tuple[int, int, tuple[int, ...]]:
    """(rows, width of each) that groups run along, and the shape with the grouped dimension last."""
    if pattern.axis == "kernel":
        return 1, torch.Size(shape).numel(), (torch.Size(shape).numel(),)
    back = (shape[0], *shape[2:], shape[1])
    return torch.Size(back[:-1]).numel(), shape[1], back


def _view(weight: Tensor, pattern: NMPattern) -> Tensor:
    rows, width, _ = layout(tuple(weight.shape), pattern)
    return (weight if pattern.axis == "kernel" else weight.movedim(1, -1)).reshape(rows, width)


def _grouped(view: Tensor, pattern: NMPattern) -> Tensor:
    """(rows, width) -> (groups, M), a short last group filled up with zeros."""
    return F.pad(view, (0, -view.shape[1] % pattern.m)).reshape(-1, pattern.m)


def _place(group: int, weight: Tensor, pattern: NMPattern) -> str:
    _, width, back = layout(tuple(weight.shape), pattern)
    row, number = divmod(group, -(-width // pattern.m))
    first = number * pattern.m
    along = f"weights {first} to {min(first + pattern.m, width) - 1}"
    if pattern.axis == "kernel":
        return along
    index = ", ".join(str(int(i)) for i in torch.unravel_index(torch.tensor(row), back[:-1]))
    return f"the group of inputs {first} to {min(first + pattern.m, width) - 1} of output ({index})"


def _what(weight: Tensor) -> str:
    kind = "a quantised tensor" if weight.is_quantized else f"layout {weight.layout}"
    return kind if weight.is_quantized or weight.layout != torch.strided else f"shape {tuple(weight.shape)}"


def _pack(numbers: Tensor, bits: int) -> Tensor:
    """Non-negative integers -> uint8, `bits` bits each, lowest first."""
    each = (numbers[:, None] >> torch.arange(bits, device=numbers.device)) & 1
    flat = F.pad(each.reshape(-1), (0, -each.numel() % 8)).reshape(-1, 8)
    return (flat << torch.arange(8, device=numbers.device)).sum(1).to(torch.uint8)


def _unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """The way back: int64 (count,)."""
    each = (packed[:, None].long() >> torch.arange(8, device=packed.device)) & 1
    flat = each.reshape(-1)[: count * bits].reshape(count, bits)
    return (flat << torch.arange(bits, device=packed.device)).sum(1)


# -- the pattern of a weight ----------------------------------------------------------------------------------------
#: above this there is little to gain, and a few zeros by chance would look like a pattern
_DENSEST = 0.75
#: share of the whole groups that hold exactly N in a weight that was pruned to N:M; other sizes of group show a spread
_EXACT = 0.9
#: without such a pattern, a larger M must be sparser by this factor
_CLEARLY = 0.8
_SAMPLE = 1 << 16


def inferred(weight: Tensor) -> NMPattern | None:
    """The pattern whose groups hold exactly N non-zeros most often, and nearly all; the smallest M of those.

    None holds more. Where there is none, as after further pruning: the smallest power of two for M, or a larger one
    that is clearly sparser. Groups run along the inputs.

    weight: (out, in, ...). None if no pattern up to 3:4 holds, or if it is all zero.
    """
    nonzero = (weight.detach().movedim(1, -1) != 0).flatten(0, -2)
    if not bool(nonzero.any()):
        return None
    sizes = range(2, min(MAX_M, nonzero.shape[1]) + 1)
    # some of the rows suggest patterns; what they suggest is held against all
    step = max(1, nonzero.numel() // _SAMPLE)
    part = nonzero[::step]
    exact, most = None, _EXACT
    for m in sizes:
        n = _most(part, m)
        share = _share(part, n, m) if n <= _DENSEST * m else 0.0
        # one group of 16 with a single non-zero is nearly always one of 15 with it, too
        if (share > most or (share == most and exact is None)) and _most(nonzero, m) == n:
            exact, most = NMPattern(n, m), share
        if most == 1.0:
            break
    if exact is not None:
        return exact
    best = None
    for m in (m for m in sizes if m & (m - 1) == 0):
        n = _most(nonzero, m)
        if n <= m * (_DENSEST if best is None else _CLEARLY * best.density):
            best = NMPattern(n, m)
    return best


def _counts(nonzero: Tensor, m: int) -> Tensor:
    """Non-zeros of each group of m. nonzero: (rows, in) -> (rows, groups), a short last one among them."""
    return F.pad(nonzero, (0, -nonzero.shape[1] % m)).view(len(nonzero), -1, m).sum(2)


def _most(nonzero: Tensor, m: int) -> int:
    return int(_counts(nonzero, m).max())


def _share(nonzero: Tensor, n: int, m: int) -> float:
    """Share of the whole groups that hold exactly n."""
    whole = _counts(nonzero, m)[:, : nonzero.shape[1] // m]
    return float((whole == n).float().mean())
