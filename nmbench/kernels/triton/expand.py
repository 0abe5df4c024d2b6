"""What the products share: the dense tile of a compressed weight, made in registers, and a step of the sum.

This module imports triton: nothing but the kernels' modules may import it.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.sparsity import NMPattern
from nmbench.sparsity.fast.triton_columns import split_columns


def interpreted() -> bool:
    """Whether TRITON_INTERPRET=1 is set; it has to be set before triton is first imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def block_of(m: int) -> int:
    """The least power of two >= m: Triton's tiles have no other sizes."""
    return 1 << (m - 1).bit_length()


def accumulator(dtype: torch.dtype) -> Any:
    """tl.int32 for int8, tl.float32 for every floating dtype."""
    return tl.int32 if dtype == torch.int8 else tl.float32


def reachable(x: Tensor) -> Tensor:
    """x: (rows, columns), copied if its last column lies 2^31 elements or more from its first (a transposed view)."""
    return x if (x.shape[1] - 1) * x.stride(1) < 2**31 else x.contiguous()


def operand(tensor: Tensor) -> Tensor:
    """As a kernel takes it: float8 as int8 of the same bits, since Triton neither fills nor selects tiles of float8."""
    return tensor.view(torch.int8) if tensor.dtype == torch.float8_e4m3fn else tensor


def widened(dtype: torch.dtype) -> bool:
    """True for bfloat16 under the interpreter, whose tl.dot multiplies the bit patterns of bfloat16 as integers."""
    return interpreted() and dtype == torch.bfloat16


def word_bits(n: int, m: int, groups: int, positions: Tensor) -> int:
    """How many bits of packed positions a kernel may load at once, 0 if it has to go group by group or entry by entry.

    groups: of a row (of a kernel position, in a convolution). A row has to begin on a word, and a group's code has to
    divide one.
    """
    code = n * (m - 1).bit_length()
    if code == 0 or 32 % code or positions.data_ptr() % 4:
        return 0
    return next((bits for bits in (32, 16, 8) if bits % code == 0 and groups * code % bits == 0), 0)


def storage_constants(pattern: NMPattern, groups: int, positions: Tensor) -> dict[str, int]:
    """Of a kernel that calls `weight_tile`; groups as in `word_bits`."""
    word, block = word_bits(pattern.n, pattern.m, groups, positions), block_of(pattern.m)
    return {"N": pattern.n, "M": pattern.m, "BITS": pattern.index_bits, "MP": block, "WORD": word}


def product_constants(
    x: Tensor, bias: Tensor | None, pattern: NMPattern, groups: int, positions: Tensor
) -> dict[str, Any]:
    """Of a kernel that multiplies as well."""
    sums = {"HAS_BIAS": bias is not None, "ACC": accumulator(x.dtype), "WIDEN": widened(x.dtype)}
    return sums | storage_constants(pattern, groups, positions)


@triton.jit
def codes_by_word(
    positions, row, row_ok, row_entries, base, start, end,
    CODE: tl.constexpr, BITS: tl.constexpr, WORD: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """(BLOCK_OUT, BLOCK_G): the packed positions of each group, several groups a load; arguments as `weight_tile`."""
    IN_WORD: tl.constexpr = WORD // CODE
    number = tl.arange(0, BLOCK_G // IN_WORD)
    at = row.to(tl.int64)[:, None] * (row_entries * BITS // WORD) + ((base + start) // IN_WORD + number)[None, :]
    ok = row_ok[:, None] & (start + number * IN_WORD < end)[None, :]
    if WORD == 32:
        word = tl.load(positions.to(tl.pointer_type(tl.int32), bitcast=True) + at, mask=ok, other=0)
    elif WORD == 16:
        word = tl.load(positions.to(tl.pointer_type(tl.int16), bitcast=True) + at, mask=ok, other=0).to(tl.int32)
    else:
        word = tl.load(positions + at, mask=ok, other=0).to(tl.int32)
    code = word[:, :, None] >> (tl.arange(0, IN_WORD) * CODE)[None, None, :]
    return tl.reshape(code, [BLOCK_OUT, BLOCK_G])


@triton.jit
def codes_by_byte(positions, first, ok, CODE: tl.constexpr):
    """first: number of the first bit of each code, of up to 25 bits. Only bytes that the code reaches are read."""
    shift = (first & 7).to(tl.int32)
    code = tl.load(positions + (first >> 3), mask=ok, other=0).to(tl.int32)
    for k in tl.static_range(1, (CODE + 6) // 8 + 1):
        more = tl.load(positions + (first >> 3) + k, mask=ok & (shift + CODE > 8 * k), other=0)
        code |= more.to(tl.int32) << (8 * k)
    return code >> shift


@triton.jit
def weight_tile(
    values, positions, row, row_ok, row_entries, base, start, end,
    N: tl.constexpr, BITS: tl.constexpr, MP: tl.constexpr, WORD: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """The dense (BLOCK_OUT, BLOCK_G * MP) tile: column g * MP + p is position p of the tile's group g.

    row: (BLOCK_OUT,), which rows; row_ok says which exist. row_entries: values that a row holds. The tile's groups are
    base + start and those after it; `end` is the first that is not there, counted like start. Positions m <= p < MP of
    a group are never hit and stay zero. WORD: of `word_bits`; then base and start fall on words.
    """
    CODE: tl.constexpr = N * BITS
    FIT: tl.constexpr = WORD if BLOCK_G * CODE >= WORD else BLOCK_G * CODE
    group = start + tl.arange(0, BLOCK_G)
    ok = row_ok[:, None] & (group < end)[None, :]
    first = row.to(tl.int64)[:, None] * row_entries + (base + group)[None, :] * N
    if N & (N - 1) == 0:  # values side by side, 16 bytes at a time where a row's length allows it
        along = tl.arange(0, BLOCK_G * N)[None, :]
        entry = row.to(tl.int64)[:, None] * row_entries + (base + start) * N + along
        there = row_ok[:, None] & (start * N + along < end * N)
        value = split_columns(tl.load(values + entry, mask=there, other=0), N, BLOCK_OUT * BLOCK_G)
    if FIT >= 8:
        code = codes_by_word(positions, row, row_ok, row_entries, base, start, end, CODE, BITS, FIT, BLOCK_OUT, BLOCK_G)
    elif CODE > 0 and CODE <= 25:
        code = codes_by_byte(positions, first * BITS, ok, CODE)
    slot = tl.arange(0, MP)[None, None, :]
    tile = tl.zeros([BLOCK_OUT, BLOCK_G, MP], dtype=values.dtype.element_ty)
    for j in tl.static_range(N):
        if N & (N - 1) == 0:
            chosen = tl.reshape(value[j], [BLOCK_OUT, BLOCK_G])
        else:
            chosen = tl.load(values + first + j, mask=ok, other=0)
        if BITS == 0:
            tile = chosen[:, :, None] + tl.zeros_like(tile)
        else:
            if FIT >= 8 or CODE <= 25:
                position = (code >> (j * BITS)) & ((1 << BITS) - 1)
            else:
                position = codes_by_byte(positions, (first + j) * BITS, ok, BITS) & ((1 << BITS) - 1)
            # positions of a group are distinct, so a choice does what a sum would, without arithmetic
            tile = tl.where(position[:, :, None] == slot, chosen[:, :, None], tile)
    return tl.reshape(tile, (BLOCK_OUT, BLOCK_G * MP))


@triton.jit
def columns_of(start, M: tl.constexpr, MP: tl.constexpr, BLOCK_K: tl.constexpr):
    """Which input each column of the tile from group `start` on meets, and whether there is one inside the group."""
    slot = tl.arange(0, BLOCK_K)
    if M == MP:  # in a form that shows that they lie side by side, or they would be loaded one by one
        return start * M + slot, slot >= 0
    else:
        return (start + slot // MP) * M + slot % MP, slot % MP < M


@triton.jit
def product(w, x, total, ACC: tl.constexpr, WIDEN: tl.constexpr):
    """total + w x; float32 is not rounded to TF32. Widening changes no bit: float32 holds every product of bfloat16.

    8-bit integers with sums in float32 are the bits of float8 e4m3. Each tile's sum is added in full float32, as tensor
    cores of sm_90 keep fewer bits than that while they sum float8 products.
    """
    if tl.float32 == ACC and w.dtype == tl.int8:
        w = w.to(tl.float8e4nv, bitcast=True)
        x = x.to(tl.float8e4nv, bitcast=True)
        return tl.dot(w, x, total, max_num_imprecise_acc=w.shape[1], out_dtype=ACC)
    else:
        if WIDEN:
            w = w.to(tl.float32)
            x = x.to(tl.float32)
        return tl.dot(w, x, total, input_precision="ieee", out_dtype=ACC)
