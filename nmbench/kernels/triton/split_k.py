"""y = x W^T + bias for 1 to 32 rows, where the time is that of reading W: the reduction is split over programs.

Two steps rather than atomics: float addition in the order of arrival gives other bits at each run, and atomics would
need a zeroed float32 output and a second pass for bias and rounding all the same. One part saves the second launch and
the workspace; which is faster is for a caller to time.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.kernels.backend import result_dtype
from nmbench.kernels.triton.expand import (
    accumulator,
    block_of,
    columns_of,
    operand,
    product,
    product_constants,
    reachable,
    weight_tile,
)
from nmbench.kernels.triton.tuning import bucket, tuned
from nmbench.sparsity import NMPattern

_TILES = [
    (16, 16, 128, 4, 3),
    (32, 16, 128, 4, 3),
    (64, 16, 64, 4, 3),
    (64, 32, 64, 4, 3),
    (64, 16, 128, 4, 4),
    (32, 16, 256, 4, 3),
    (16, 16, 512, 4, 3),
]
#: columns of a part, of the weight
_SHORTEST = 128


@tuned(_TILES, key=["bucket", "outs", "depth", "groups_a_part", "N", "M", "DIRECT"])
@triton.jit(do_not_specialize=["rows", "bucket"])
def split_k_kernel(
    x, values, positions, bias, parts,
    rows, bucket, outs, depth, groups, groups_a_part, x_row, x_col,
    DIRECT: tl.constexpr, HAS_BIAS: tl.constexpr, ACC: tl.constexpr, WIDEN: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, BITS: tl.constexpr, MP: tl.constexpr, WORD: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """As matmul_kernel, over the groups of part program_id(2) alone. parts: (splits, rows, outs) of type ACC.

    DIRECT: there is one part, and `parts` is the result: (rows, outs), with the bias added.
    """
    BLOCK_G: tl.constexpr = BLOCK_K // MP
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    row = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    part = tl.program_id(2)
    end = tl.minimum((part + 1) * groups_a_part, groups)
    x_at = x + row.to(tl.int64)[None, :] * x_row
    total = tl.zeros([BLOCK_OUT, BLOCK_ROWS], dtype=ACC)
    for start in range(part * groups_a_part, end, BLOCK_G):
        w = weight_tile(
            values, positions, out, out < outs, groups * N, 0, start, end, N, BITS, MP, WORD, BLOCK_OUT, BLOCK_G
        )
        column, real = columns_of(start, M, MP, BLOCK_K)
        real &= (column < depth) & (column < end * M)
        piece = tl.load(x_at + column[:, None] * x_col, mask=real[:, None] & (row < rows)[None, :], other=0)
        total = product(w, piece, total, ACC, WIDEN)
    if DIRECT and HAS_BIAS:
        total += tl.load(bias + out, mask=out < outs, other=0).to(ACC)[:, None]
    at = parts + (part.to(tl.int64) * rows + row[None, :]) * outs + out[:, None]
    tl.store(at, total.to(parts.dtype.element_ty), mask=(out < outs)[:, None] & (row < rows)[None, :])


@triton.jit(do_not_specialize=["rows", "splits"])
def reduce_kernel(parts, bias, y, rows, outs, splits, HAS_BIAS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """parts: (splits, rows, outs) -> y: (rows, outs)."""
    total = rows * outs
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK], dtype=ACC)
    from_part = parts + at
    for _ in range(splits):
        acc += tl.load(from_part, mask=at < total, other=0)
        from_part += total
    if HAS_BIAS:
        acc += tl.load(bias + at % outs, mask=at < total, other=0).to(ACC)
    tl.store(y + at, acc.to(y.dtype.element_ty), mask=at < total)


def splits_for(outs: int, groups: int, m: int, device: torch.device) -> int:
    """So many parts that about four programs wait for each multiprocessor, none empty or shorter than 128 columns."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    wanted = triton.cdiv(4 * processors, triton.cdiv(outs, 64))
    most = max(1, min(int(wanted), groups * block_of(m) // _SHORTEST, 64))
    return max(1, int(triton.cdiv(groups, part_of(groups, most, m))))


def part_of(groups: int, splits: int, m: int) -> int:
    """Groups of a part: a multiple of 128 columns, so that it begins on a word of packed positions.

    A tile that is longer is right as well: beyond the part's end it reads nothing.
    """
    step = max(1, _SHORTEST // block_of(m))
    return int(triton.cdiv(triton.cdiv(groups, splits), step)) * step


def split_k(
    x: Tensor,
    values: Tensor,
    positions: Tensor,
    bias: Tensor | None,
    outs: int,
    pattern: NMPattern,
    splits: int | None = None,
) -> Tensor:
    """As `matmul`; splits: parts of the reduction, by default `splits_for`. Equal bits at each run for equal splits."""
    x = reachable(x)
    rows, depth = x.shape
    groups = triton.cdiv(depth, pattern.m)
    splits = splits or splits_for(outs, groups, pattern.m, x.device)
    y = x.new_empty((rows, outs), dtype=result_dtype(x.dtype))
    parts = y
    if splits > 1:
        parts = x.new_empty((splits, rows, outs), dtype=torch.int32 if x.dtype == torch.int8 else torch.float32)

    def grid(meta: dict[str, int]) -> tuple[int, int, int]:
        return triton.cdiv(outs, meta["BLOCK_OUT"]), triton.cdiv(rows, meta["BLOCK_ROWS"]), splits

    if not y.numel():
        return y
    split_k_kernel[grid](
        operand(x), operand(values), positions, y if bias is None else bias, parts,  # bias: not read without HAS_BIAS
        rows, bucket(rows), outs, depth, groups, part_of(groups, splits, pattern.m), *x.stride(),
        DIRECT=splits == 1,
        **product_constants(x, bias, pattern, groups, positions),
    )  # fmt: skip
    if splits == 1:
        return y
    reduce_kernel[(triton.cdiv(y.numel(), 256),)](
        parts, y if bias is None else bias, y, rows, outs, splits,
        HAS_BIAS=bias is not None, ACC=accumulator(x.dtype), BLOCK=256,
    )  # fmt: skip
    return y
