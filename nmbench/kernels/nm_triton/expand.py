"""What all kernels here share: the dense tile of a compressed weight, made in registers, and the tuning lists.

weight_tile   compressed values and packed positions -> a dense tile
block_of      the power of two that a group takes in a tile
configs       what the autotuner tries; one small configuration under the interpreter
interpreted   whether kernels run on the CPU, under TRITON_INTERPRET=1
accumulator   the type that products of a dtype are summed in
product       a step of the sum, on the tensor cores
widened       whether `product` has to widen its operands first, for the interpreter's sake

This module imports triton: nothing but the kernels' modules may import it.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl

__all__ = ["accumulator", "block_of", "configs", "interpreted", "product", "weight_tile", "widened"]


def interpreted() -> bool:
    """Whether TRITON_INTERPRET=1 is set; it has to be set before triton is first imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def block_of(m: int) -> int:
    """The least power of two >= m: Triton's tiles have no other sizes."""
    return 1 << (m - 1).bit_length()


def accumulator(dtype: torch.dtype) -> Any:
    """tl.int32 for int8, tl.float32 for every floating dtype."""
    return tl.int32 if dtype == torch.int8 else tl.float32


def widened(dtype: torch.dtype) -> bool:
    """True for bfloat16 under the interpreter, whose tl.dot multiplies the bit patterns of bfloat16 as integers."""
    return interpreted() and dtype == torch.bfloat16


def configs(tiles: list[tuple[int, int, int, int, int]]) -> list[triton.Config]:
    """tiles: (BLOCK_OUT, BLOCK_ROWS, BLOCK_K, warps, stages). BLOCK_K is 64 or more, as M may be 64."""
    if interpreted():
        tiles = [(16, 16, 64, 1, 1)]
    return [
        triton.Config({"BLOCK_OUT": out, "BLOCK_ROWS": rows, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
        for out, rows, k, warps, stages in tiles
    ]


@triton.jit
def weight_tile(
    values,
    positions,
    row,
    row_ok,
    row_entries,
    group,
    group_ok,
    N: tl.constexpr,
    BITS: tl.constexpr,
    MP: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """The dense (BLOCK_OUT, BLOCK_G * MP) tile: column g * MP + p is position p of the tile's group g.

    row, group: which rows and which groups inside a row, of shapes (BLOCK_OUT,) and (BLOCK_G,); the masks say which
    exist. row_entries: values that a row holds. Positions m <= p < MP of a group are never hit and stay zero.
    """
    ok = row_ok[:, None] & group_ok[None, :]
    first = row.to(tl.int64)[:, None] * row_entries + group[None, :] * N
    slot = tl.arange(0, MP)[None, None, :]
    tile = tl.zeros([BLOCK_OUT, BLOCK_G, MP], dtype=values.dtype.element_ty)
    for j in tl.static_range(N):
        value = tl.load(values + first + j, mask=ok, other=0)
        if BITS == 0:
            tile = value[:, :, None] + tl.zeros_like(tile)
        else:
            bit = (first + j) * BITS
            code = tl.load(positions + (bit >> 3), mask=ok, other=0).to(tl.int32)
            shift = (bit & 7).to(tl.int32)
            if 8 % BITS != 0:  # a code may run on into the next byte; only then is there surely one to read
                runs_on = ok & (shift + BITS > 8)
                code |= tl.load(positions + (bit >> 3) + 1, mask=runs_on, other=0).to(tl.int32) << 8
            position = (code >> shift) & ((1 << BITS) - 1)
            # positions of a group are distinct, so a choice does what a sum would, without arithmetic
            tile = tl.where(position[:, :, None] == slot, value[:, :, None], tile)
    return tl.reshape(tile, (BLOCK_OUT, BLOCK_G * MP))


@triton.jit
def product(w, x, total, ACC: tl.constexpr, WIDEN: tl.constexpr):
    """total + w x; float32 is not rounded to TF32. Widening changes no bit: float32 holds every product of bfloat16."""
    if WIDEN:
        w = w.to(tl.float32)
        x = x.to(tl.float32)
    return tl.dot(w, x, total, input_precision="ieee", out_dtype=ACC)
