"""Values and packed positions back to the weight, in one pass over its memory."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nmbench.kernels.nmtensor import INTEGERS, layout
from nmbench.kernels.triton.compress import taps_of
from nmbench.kernels.triton.expand import block_of, columns_of, storage_constants, weight_tile
from nmbench.sparsity import NMPattern

_COLUMNS, _ELEMENTS = 256, 2048


@triton.jit
def decompress_kernel(
    values, positions, weight, rows, groups, taps, width, out_step, blocks,
    N: tl.constexpr, M: tl.constexpr, BITS: tl.constexpr, MP: tl.constexpr, WORD: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Row r of `width` elements, in `groups` groups, is tap r % taps of output r // taps of the contiguous weight.

    blocks: tiles along a row.
    """
    BLOCK_G: tl.constexpr = BLOCK_K // MP
    row = tl.program_id(0) // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    start = tl.program_id(0) % blocks * BLOCK_G
    tile = weight_tile(
        values, positions, row, row < rows, groups * N, 0, start, groups, N, BITS, MP, WORD, BLOCK_ROWS, BLOCK_G
    )
    column, real = columns_of(start, M, MP, BLOCK_K)
    real &= column < width
    at = row // taps * out_step + row % taps
    tl.store(weight + at[:, None] + (column * taps)[None, :], tile, mask=(row < rows)[:, None] & real[None, :])


def tile_of(rows: int) -> tuple[int, int]:
    """(rows, columns) of a tile."""
    return (1, _ELEMENTS) if rows == 1 else (_ELEMENTS // _COLUMNS, _COLUMNS)


def decompress(values: Tensor, positions: Tensor, pattern: NMPattern, shape: tuple[int, ...]) -> Tensor:
    """The contiguous weight, of `shape` and the values' dtype; one that compress.takes says yes to, or empty."""
    words = values.view(INTEGERS[values.element_size()])
    weight = words.new_empty(shape)
    taps = taps_of(shape, pattern)
    rows, width, _ = layout(shape, pattern)
    groups = triton.cdiv(width, pattern.m)
    block_rows, block_k = tile_of(rows)
    blocks = triton.cdiv(groups, block_k // block_of(pattern.m))
    if weight.numel():
        decompress_kernel[(blocks * triton.cdiv(rows, block_rows),)](
            words, positions, weight, rows, groups, taps, width, width * taps, blocks,
            **storage_constants(pattern, groups, positions), BLOCK_ROWS=block_rows, BLOCK_K=block_k,
        )  # fmt: skip
    return weight.view(values.dtype)
