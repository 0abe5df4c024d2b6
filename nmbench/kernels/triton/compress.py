"""A baked weight to values and packed positions in one pass over its memory, bit for bit as nmtensor's torch code.

takes             whether a weight is for the kernels of storage
compress          the launcher
compress_kernel   the Triton kernel: each program packs one tile of groups

Weights are read as integers of their width. Eight groups fill whole bytes whatever a group's code takes, so tiles of
whole octets begin and end on bytes of their own, and no two programs write the same one. The first group that breaks
the pattern is found by an atomic minimum, which only programs that meet one make.

A tile is read in one of three ways. VECTOR: the weight lies in the order of its groups, all whole and M = 2^k <= 16, so
a tile is one run of memory. COLUMNS: element j of many groups at once, M <= 16 and N <= 8. LOOP: any N:M; a lane goes
through its groups, few enough to end on a byte, element by element.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.sparsity import NMPattern
from nmbench.sparsity.fast.triton_expand import join_columns, split_columns

__all__ = [
    "CLEAN",
    "COLUMNS",
    "INTEGERS",
    "LOOP",
    "VECTOR",
    "compress",
    "compress_kernel",
    "mode_of",
    "rows_of",
    "takes",
    "taps_of",
    "tile_of",
]

VECTOR, COLUMNS, LOOP = "vector", "columns", "loop"
#: "no group breaks the pattern"
CLEAN = 2**31 - 1
_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int8, torch.float8_e4m3fn, torch.float8_e5m2),
)
#: integers of the same width
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
#: elements of a tile (VECTOR), its groups (COLUMNS) and its lanes (LOOP)
_TILE, _GROUPS, _LANES = 2048, 256, 128


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
def pack_by_lane(
    weight,
    values,
    positions,
    groups,
    along,
    taps,
    width,
    out_step,
    tap_step,
    step,
    N: tl.constexpr,
    M: tl.constexpr,
    BITS: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    LANES: tl.constexpr,
    EACH: tl.constexpr,
    CLEAN: tl.constexpr,
):
    """EACH groups a lane; their codes, N * BITS * EACH bits, are whole bytes. The first group with too many."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    byte = lane * (N * BITS * EACH // 8)
    waiting = tl.zeros([LANES], tl.int32)
    fill = tl.zeros([LANES], tl.int32)
    wrong = tl.full([LANES], CLEAN, tl.int32)
    for i in range(EACH):
        group = lane * EACH + i
        exists = group < groups
        at, start = place(group, along, taps, width, out_step, tap_step, step, M)
        count = tl.zeros([LANES], tl.int32)
        for j in range(M):
            bits = tl.load(weight + at + j * step, mask=exists & (start + j < width), other=0)
            count += ((bits & MAGNITUDE) != 0).to(tl.int32)
        wrong = tl.minimum(wrong, tl.where(count > N, group, CLEAN))
        free = N - count
        slot = tl.zeros([LANES], tl.int32)
        for j in range(M):
            bits = tl.load(weight + at + j * step, mask=exists & (start + j < width), other=0)
            full = (bits & MAGNITUDE) != 0
            chosen = exists & (full | (free > 0)) & (slot < N)
            free -= (chosen & ~full).to(tl.int32)
            tl.store(values + group * N + slot, tl.where(full, bits, 0), mask=chosen)
            slot += chosen.to(tl.int32)
            waiting |= tl.where(chosen, j << fill, 0)
            fill += tl.where(chosen, BITS, 0)
            ready = fill >= 8
            tl.store(positions + byte, waiting.to(tl.uint8), mask=ready)
            byte += ready.to(tl.int32)
            waiting = tl.where(ready, waiting >> 8, waiting)
            fill -= tl.where(ready, 8, 0)
    tl.store(positions + byte, waiting.to(tl.uint8), mask=fill > 0)
    return tl.min(wrong)


@triton.jit
def compress_kernel(
    weight,
    values,
    positions,
    first_wrong,
    elements,
    groups,
    along,
    taps,
    width,
    out_step,
    tap_step,
    step,
    N: tl.constexpr,
    M: tl.constexpr,
    BITS: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    MODE: tl.constexpr,
    GROUPS: tl.constexpr,
    EACH: tl.constexpr,
    CLEAN: tl.constexpr,
):
    """weight: `elements` integers in rows of `width`, `along` groups each; row r is tap r % taps of output r // taps.

    GROUPS: of a tile; lanes of EACH groups in LOOP.
    """
    if MODE == "loop":
        first = pack_by_lane(
            weight,
            values,
            positions,
            groups,
            along,
            taps,
            width,
            out_step,
            tap_step,
            step,
            N,
            M,
            BITS,
            MAGNITUDE,
            GROUPS,
            EACH,
            CLEAN,
        )
    else:
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


def takes(dtype: torch.dtype, shape: tuple[int, ...], pattern: NMPattern) -> bool:
    """Whether the kernels of storage know the dtype, and count in 32 bits whatever the weight has."""
    if dtype not in _DTYPES or 0 in shape:
        return False
    rows, width = rows_of(shape, pattern)
    return bool(rows * triton.cdiv(width, pattern.m) * pattern.m < 2**31 - 2**20)


def mode_of(ordered: bool, elements: int, width: int, pattern: NMPattern, address: int) -> str:
    """How a tile is read; ordered: the weight lies in memory in the order of its groups."""
    n, m = pattern.n, pattern.m
    if m > 16 or n > 8:
        return LOOP
    aligned = address % 16 == 0 and elements % 16 == 0
    return VECTOR if ordered and aligned and width % m == 0 and m & (m - 1) == 0 else COLUMNS


def tile_of(mode: str, pattern: NMPattern) -> tuple[int, int]:
    """(groups of a tile or lanes, groups of a lane)."""
    if mode == LOOP:
        return _LANES, 8 // math.gcd(8, pattern.n * pattern.index_bits)
    return (_TILE // pattern.m if mode == VECTOR else _GROUPS), 1


def magnitude(dtype: torch.dtype) -> int:
    """The bits that are all unset in a zero: all of an integer's, all but the sign of a floating number's."""
    return (1 << (8 * dtype.itemsize - 1)) - 1 if dtype.is_floating_point else -1


def compress(weight: Tensor, pattern: NMPattern) -> tuple[Tensor, Tensor, Tensor]:
    """weight: (out, in, ...), one that `takes` says yes to, or empty -> (values, positions, first wrong group).

    The last is an int32 of shape () on the device, CLEAN where every group keeps to the pattern; else values and
    positions mean nothing. Contiguous and channels_last memory is read where it lies, any other is copied.
    """
    rows, width = rows_of(tuple(weight.shape), pattern)
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
    tile, each = tile_of(mode, pattern)
    if groups:
        compress_kernel[(triton.cdiv(groups, tile * each),)](
            memory,
            values,
            positions,
            wrong,
            memory.numel(),
            groups,
            along,
            taps,
            width,
            width * taps,
            width if ordered else 1,
            1 if ordered else taps,
            N=pattern.n,
            M=pattern.m,
            BITS=bits,
            MAGNITUDE=magnitude(weight.dtype),
            MODE=mode,
            GROUPS=tile,
            EACH=each,
            CLEAN=CLEAN,
        )
    return values.view(weight.dtype), positions[: triton.cdiv(groups * pattern.n * bits, 8)], wrong


def taps_of(shape: tuple[int, ...], pattern: NMPattern) -> int:
    """Kernel positions of an output channel; 1 where groups run over them too."""
    return 1 if pattern.axis == "kernel" else math.prod(shape[2:])


def rows_of(shape: tuple[int, ...], pattern: NMPattern) -> tuple[int, int]:
    """(rows, width of each) that groups run along."""
    if pattern.axis == "kernel":
        return 1, math.prod(shape)
    return shape[0] * taps_of(shape, pattern), shape[1]


def _channels_last(weight: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return weight.dim() in formats and weight.is_contiguous(memory_format=formats[weight.dim()])
