"""A baked weight to values and packed positions in one pass over its memory, bit for bit as nmtensor's torch code.

Weights are read as integers of their width. Eight groups fill whole bytes whatever a group's code takes, so tiles of
whole octets begin and end on bytes of their own, and no two programs write the same one. The first group that breaks
the pattern is found by an atomic minimum, which only programs that meet one make.

A tile is read in one of two ways. VECTOR: the weight lies in the order of its groups, all whole and M = 2^k, so a tile
is one run of memory. COLUMNS: element j of many groups at once.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.kernels.nmtensor import INTEGERS, layout
from nmbench.sparsity import NMPattern
from nmbench.sparsity.fast.triton_columns import join_columns, split_columns

VECTOR, COLUMNS = "vector", "columns"
#: "no group breaks the pattern"
CLEAN = 2**31 - 1
_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int8, torch.float8_e4m3fn, torch.float8_e5m2),
)
#: elements of a tile (VECTOR), and its groups (COLUMNS)
_TILE, _GROUPS = 2048, 256


@triton.jit
def place(group, along, taps, width, out_step, tap_step, step, M: tl.constexpr):
    """Offset of the first element of each group, and its number along the width."""
    row = group // along
    start = group % along * M
    return row // taps * out_step + row % taps * tap_step + start * step, start


@triton.jit
def pack_octets(positions, code, tile, groups, CODE: tl.constexpr, GROUPS: tl.constexpr):
    """Store codes of CODE <= 32 bits side by side, in the widest units that an octet of groups fills."""
    UNIT: tl.constexpr = 32 if CODE % 4 == 0 else (16 if CODE % 2 == 0 else 8)
    UNITS: tl.constexpr = 8 * CODE // UNIT
    OCTETS: tl.constexpr = GROUPS // 8
    codes = split_columns(tl.reshape(code, [OCTETS, 8]), 8, OCTETS)
    octet = tile * OCTETS + tl.arange(0, OCTETS)
    if UNIT == 32:
        units_at = positions.to(tl.pointer_type(tl.uint32), bitcast=True)
    elif UNIT == 16:
        units_at = positions.to(tl.pointer_type(tl.uint16), bitcast=True)
    else:
        units_at = positions
    units = ()
    for u in tl.static_range(UNITS):
        unit = tl.zeros([OCTETS], tl.uint32)
        for i in tl.static_range(8):
            if i * CODE < (u + 1) * UNIT and (i + 1) * CODE > u * UNIT:
                if i * CODE >= u * UNIT:
                    unit |= codes[i] << (i * CODE - u * UNIT)
                else:
                    unit |= codes[i] >> (u * UNIT - i * CODE)
        if UNITS & (UNITS - 1) == 0:
            units = units + (unit,)  # noqa: RUF005 - triton knows no unpacking in a tuple
        else:
            tl.store(units_at + octet * UNITS + u, unit.to(units_at.dtype.element_ty), mask=octet * 8 < groups)
    if UNITS & (UNITS - 1) == 0:
        run = tl.reshape(join_columns(units, UNITS, OCTETS), [OCTETS * UNITS])
        at = tile * (OCTETS * UNITS) + tl.arange(0, OCTETS * UNITS)
        tl.store(units_at + at, run.to(units_at.dtype.element_ty), mask=at // UNITS * 8 < groups)


@triton.jit
def compress_kernel(
    weight, values, positions, first_wrong, elements, groups, along, taps, width, out_step, tap_step, step,
    N: tl.constexpr, M: tl.constexpr, BITS: tl.constexpr, MAGNITUDE: tl.constexpr,
    MODE: tl.constexpr, GROUPS: tl.constexpr, CLEAN: tl.constexpr,
):  # fmt: skip
    """weight: `elements` integers in rows of `width`, `along` groups each; row r is tap r % taps of output r // taps.

    GROUPS: of a tile.
    """
    tile = tl.program_id(0)
    group = tile * GROUPS + tl.arange(0, GROUPS)
    if MODE == "vector":
        here = tile * (GROUPS * M) + tl.arange(0, GROUPS * M)
        run = tl.load(weight + here, mask=here < elements, other=0)
        words = split_columns(tl.reshape(run, [GROUPS, M]), M, GROUPS)
    else:
        at, start = place(group, along, taps, width, out_step, tap_step, step, M)
        words = ()
        for j in tl.static_range(M):
            there = (group < groups) & (start + j < width)
            words = words + (tl.load(weight + at + j * step, mask=there, other=0),)  # noqa: RUF005 - as above
    count = tl.zeros([GROUPS], tl.int32)
    for j in tl.static_range(M):
        count += ((words[j] & MAGNITUDE) != 0).to(tl.int32)
    first = tl.min(tl.where(count > N, group, CLEAN))
    free = N - count
    slot = tl.zeros([GROUPS], tl.int32)
    code = tl.zeros([GROUPS], tl.uint32)
    slots = ()
    for j in tl.static_range(M):
        full = (words[j] & MAGNITUDE) != 0
        chosen = full | (free > 0)
        free -= (chosen & ~full).to(tl.int32)
        slots = slots + (tl.where(chosen, slot, N),)  # noqa: RUF005 - as above
        if BITS > 0:
            code |= tl.where(chosen & (group < groups), j << (slot * BITS), 0).to(tl.uint32)
        slot += chosen.to(tl.int32)
    kept = ()
    for s in tl.static_range(N):
        value = tl.zeros_like(words[0])
        for j in tl.static_range(M - N + 1):  # element s + j can be the s-th that is kept
            word = words[s + j]
            value = tl.where((slots[s + j] == s) & ((word & MAGNITUDE) != 0), word, value)
        if N & (N - 1) == 0:
            kept = kept + (value,)  # noqa: RUF005 - as above
        else:
            tl.store(values + group * N + s, value, mask=group < groups)
    if N & (N - 1) == 0:
        entry = tile * (GROUPS * N) + tl.arange(0, GROUPS * N)
        tl.store(values + entry, tl.reshape(join_columns(kept, N, GROUPS), [GROUPS * N]), mask=entry < groups * N)
    if BITS > 0:
        pack_octets(positions, code, tile, groups, N * BITS, GROUPS)
    tl.atomic_min(first_wrong, first, mask=first < CLEAN, sem="relaxed")


def packs(pattern: NMPattern) -> bool:
    """Whether the kernel can pack weights by the pattern, groups of which it holds in registers."""
    return pattern.m <= 16 and pattern.n <= 8


def takes(dtype: torch.dtype, shape: tuple[int, ...], pattern: NMPattern) -> bool:
    """Whether the kernels of storage know the dtype, and count in 32 bits whatever the weight has."""
    if dtype not in _DTYPES or 0 in shape:
        return False
    rows, width, _ = layout(shape, pattern)
    return bool(rows * triton.cdiv(width, pattern.m) * pattern.m < 2**31 - 2**20)


def mode_of(ordered: bool, elements: int, width: int, pattern: NMPattern, address: int) -> str:
    """How a tile is read; ordered: the weight lies in memory in the order of its groups."""
    m = pattern.m
    aligned = address % 16 == 0 and elements % 16 == 0
    return VECTOR if ordered and aligned and width % m == 0 and m & (m - 1) == 0 else COLUMNS


def groups_of_a_tile(mode: str, pattern: NMPattern) -> int:
    """How many groups a program takes."""
    return _TILE // pattern.m if mode == VECTOR else _GROUPS


def magnitude(dtype: torch.dtype) -> int:
    """The bits that are all unset in a zero: all of an integer's, all but the sign of a floating number's."""
    return (1 << (8 * dtype.itemsize - 1)) - 1 if dtype.is_floating_point else -1


def compress(weight: Tensor, pattern: NMPattern) -> tuple[Tensor, Tensor, Tensor]:
    """weight: (out, in, ...), which `takes` and `packs` say yes to, or empty -> (values, positions, first wrong group).

    The last is an int32 of shape () on the device, CLEAN where every group keeps to the pattern; else values and
    positions mean nothing. Contiguous and channels_last memory is read where it lies, any other is copied.
    """
    rows, width, _ = layout(tuple(weight.shape), pattern)
    taps = taps_of(tuple(weight.shape), pattern)
    channels_last = taps > 1 and _channels_last(weight)
    memory = weight.detach() if channels_last else weight.detach().contiguous()
    memory = memory.view(INTEGERS[weight.element_size()])
    ordered = taps == 1 or channels_last
    along = triton.cdiv(width, pattern.m)
    groups, bits = rows * along, pattern.index_bits
    values = memory.new_empty(groups * pattern.n)
    # whole octets, of which the kernel writes units of up to 32 bits
    positions = memory.new_empty(triton.cdiv(groups, 8) * pattern.n * bits, dtype=torch.uint8)
    wrong = torch.full((), CLEAN, dtype=torch.int32, device=weight.device)
    mode = mode_of(ordered, memory.numel(), width, pattern, memory.data_ptr())
    tile = groups_of_a_tile(mode, pattern)
    if groups:
        compress_kernel[(triton.cdiv(groups, tile),)](
            memory, values, positions, wrong, memory.numel(), groups, along, taps, width,
            width * taps, width if ordered else 1, 1 if ordered else taps,
            N=pattern.n, M=pattern.m, BITS=bits, MAGNITUDE=magnitude(weight.dtype),
            MODE=mode, GROUPS=tile, CLEAN=CLEAN,
        )  # fmt: skip
    return values.view(weight.dtype), positions[: triton.cdiv(groups * pattern.n * bits, 8)], wrong


def taps_of(shape: tuple[int, ...], pattern: NMPattern) -> int:
    """Kernel positions of an output channel; 1 where groups run over them too."""
    return 1 if pattern.axis == "kernel" else math.prod(shape[2:])


def _channels_last(weight: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return weight.dim() in formats and weight.is_contiguous(memory_format=formats[weight.dim()])
