"""y = x W^T + bias with W compressed, for any N:M; the kernel for many rows.

The product is computed as W x^T: the expanded tile of W is then the left operand, which tensor cores take from
registers, and x is the right one, which they take from shared memory, where its loads arrive anyhow.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nmbench.kernels.backend import result_dtype
from nmbench.kernels.triton.expand import columns_of, operand, product, product_constants, reachable, weight_tile
from nmbench.kernels.triton.tuning import bucket, tuned
from nmbench.sparsity import NMPattern

_TILES = [
    (64, 64, 64, 4, 3),
    (128, 64, 64, 4, 3),
    (64, 128, 64, 4, 3),
    (128, 128, 64, 8, 3),
    (128, 256, 64, 8, 3),
    (128, 128, 128, 8, 2),
    (64, 64, 64, 8, 3),
    (32, 32, 64, 4, 3),
]


@tuned(_TILES, key=["bucket", "outs", "depth", "N", "M"])
@triton.jit(do_not_specialize=["rows", "bucket"])
def matmul_kernel(
    x, values, positions, bias, y,
    rows, bucket, outs, depth, groups, x_row, x_col,
    HAS_BIAS: tl.constexpr, ACC: tl.constexpr, WIDEN: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, BITS: tl.constexpr, MP: tl.constexpr, WORD: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """x: (rows, depth), strides x_row and x_col; W: (outs, depth) in `groups` groups a row; y: (rows, outs)."""
    BLOCK_G: tl.constexpr = BLOCK_K // MP
    # one axis, as the others end at 65535: programs that share rows are neighbours
    blocks = tl.cdiv(outs, BLOCK_OUT)
    out = tl.program_id(0) % blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    row = tl.program_id(0) // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    x_at = x + row.to(tl.int64)[None, :] * x_row
    total = tl.zeros([BLOCK_OUT, BLOCK_ROWS], dtype=ACC)
    for start in range(0, groups, BLOCK_G):
        w = weight_tile(
            values, positions, out, out < outs, groups * N, 0, start, groups, N, BITS, MP, WORD, BLOCK_OUT, BLOCK_G
        )
        column, real = columns_of(start, M, MP, BLOCK_K)
        real &= column < depth
        part = tl.load(x_at + column[:, None] * x_col, mask=real[:, None] & (row < rows)[None, :], other=0)
        total = product(w, part, total, ACC, WIDEN)
    if HAS_BIAS:
        total += tl.load(bias + out, mask=out < outs, other=0).to(ACC)[:, None]
    y_at = y + row.to(tl.int64)[None, :] * outs + out[:, None]
    tl.store(y_at, total.to(y.dtype.element_ty), mask=(out < outs)[:, None] & (row < rows)[None, :])


def matmul(x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, outs: int, pattern: NMPattern) -> Tensor:
    """x: (rows, in), any strides -> (rows, outs), contiguous, of `result_dtype`.

    values, positions: of a compressed (outs, in) weight. bias: (outs,) or None.
    """
    x = reachable(x)
    rows, depth = x.shape
    y = x.new_empty((rows, outs), dtype=result_dtype(x.dtype))

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(outs, meta["BLOCK_OUT"]) * triton.cdiv(rows, meta["BLOCK_ROWS"]),)

    groups = triton.cdiv(depth, pattern.m)
    if y.numel():
        matmul_kernel[grid](
            operand(x), operand(values), positions, y if bias is None else bias, y,  # not read without HAS_BIAS
            rows, bucket(rows), outs, depth, groups, *x.stride(),
            **product_constants(x, bias, pattern, groups, positions),
        )  # fmt: skip
    return y
