"""Convolution with a compressed weight, as an implicit matrix product on a channels_last input."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.kernels.problem import Pair, output_size, result_dtype
from nmbench.kernels.triton.expand import columns_of, product, product_constants, weight_tile
from nmbench.kernels.triton.matmul import matmul
from nmbench.kernels.triton.tuning import bucket, tuned
from nmbench.sparsity import NMPattern

_TILES = [(64, 64, 64, 4, 3), (128, 64, 64, 4, 3), (64, 128, 64, 4, 3), (64, 64, 64, 8, 3), (32, 32, 64, 4, 3)]


@tuned(_TILES, key=["bucket", "outs", "channels", "KH", "KW", "N", "M"])
@triton.jit(do_not_specialize=["rows", "bucket", "height", "width", "out_height", "out_width"])
def conv_kernel(
    x, values, positions, bias, y,
    rows, bucket, outs, channels, groups, height, width, out_height, out_width, x_pixel, y_pixel,
    stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, KH: tl.constexpr, KW: tl.constexpr,
    HAS_BIAS: tl.constexpr, ACC: tl.constexpr, WIDEN: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, BITS: tl.constexpr, MP: tl.constexpr, WORD: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A row is a pixel of the output. outs, channels: of one of the convolution's groups, which is program_id(1).

    groups: N:M groups at one kernel position of one output channel.
    """
    BLOCK_G: tl.constexpr = BLOCK_K // MP
    # from the pixel's, whose divisibility is known, and not of sizes that would compile the kernel anew
    x_line = width.to(tl.int64) * x_pixel
    x_image = height * x_line
    part = tl.program_id(1)
    # one axis for both, as the others end at 65535: programs that share pixels are neighbours
    blocks = tl.cdiv(outs, BLOCK_OUT)
    local = tl.program_id(0) % blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    out = part * outs + local
    row = tl.program_id(0) // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    left = row % out_width * stride_w - pad_w
    top = row // out_width % out_height * stride_h - pad_h
    image = x + (row // (out_height * out_width)) * x_image + part * channels
    total = tl.zeros([BLOCK_OUT, BLOCK_ROWS], dtype=ACC)
    for tap in range(KH * KW):
        line = top + tap // KW * dilation_h
        pixel = left + tap % KW * dilation_w
        inside = (row < rows) & (line >= 0) & (line < height) & (pixel >= 0) & (pixel < width)
        x_at = image + line * x_line + pixel * x_pixel
        for start in range(0, groups, BLOCK_G):
            w = weight_tile(
                values, positions, out, local < outs, KH * KW * groups * N, tap * groups, start, groups,
                N, BITS, MP, WORD, BLOCK_OUT, BLOCK_G,
            )  # fmt: skip
            channel, real = columns_of(start, M, MP, BLOCK_K)
            real &= channel < channels
            piece = tl.load(x_at[None, :] + channel[:, None], mask=real[:, None] & inside[None, :], other=0)
            total = product(w, piece, total, ACC, WIDEN)
    if HAS_BIAS:
        total += tl.load(bias + out, mask=local < outs, other=0).to(ACC)[:, None]
    y_at = y + row.to(tl.int64)[None, :] * y_pixel + out[:, None]
    tl.store(y_at, total.to(y.dtype.element_ty), mask=(local < outs)[:, None] & (row < rows)[None, :])


def conv2d(
    x: Tensor,
    values: Tensor,
    positions: Tensor,
    bias: Tensor | None,
    kernel: tuple[int, int, int],
    pattern: NMPattern,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """x: (batch, in, H, W) -> (batch, out, H', W'), channels_last. An x in another memory format is copied.

    kernel: (out, kh, kw). values, positions: of a compressed (out, in / groups, kh, kw) weight.
    """
    outs, kh, kw = kernel
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    out_height, out_width = output_size((height, width), (kh, kw), stride, padding, dilation)
    if (kh, kw, stride, padding, groups) == (1, 1, (1, 1), (0, 0), 1):
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        flat = matmul(pixels, values, positions, bias, outs, pattern)
        return flat.view(batch, height, width, outs).permute(0, 3, 1, 2)
    y = x.new_empty((batch, out_height, out_width, outs), dtype=result_dtype(x.dtype))
    rows = batch * out_height * out_width

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(outs // groups, meta["BLOCK_OUT"]) * triton.cdiv(rows, meta["BLOCK_ROWS"]), groups

    along = triton.cdiv(channels // groups, pattern.m)
    if y.numel():
        conv_kernel[grid](
            x, values, positions, y if bias is None else bias, y,  # bias: not read without HAS_BIAS
            rows, bucket(rows), outs // groups, channels // groups, along, height, width, out_height, out_width,
            channels, outs,  # not x.stride(), which says nothing of a dimension of size 1
            *stride, *padding, *dilation, KH=kh, KW=kw,
            **product_constants(x, bias, pattern, along, positions),
        )  # fmt: skip
    return y.permute(0, 3, 1, 2)
