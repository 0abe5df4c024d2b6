"""A convolution as a matrix product: what a backend that has only a product needs.

weight_matrix   (out, in, kh, kw) -> (out, kh * kw * channels), the channels of a kernel position side by side
input_matrix    (N, in, H, W) -> (rows, kh * kw * channels), without a copy for 1x1 of stride 1 on a channels_last input
output_size     height and width of the output
from_rows       (rows, out) -> (N, out, H', W'), channels_last

`channels` may be more than `in`: the rest is zero.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nmbench.kernels.backend import Problem

__all__ = ["from_rows", "input_matrix", "output_size", "weight_matrix"]


def weight_matrix(weight: Tensor, channels: int) -> Tensor:
    """weight: (out, in, kh, kw) -> (out, kh * kw * channels), contiguous."""
    last = weight.movedim(1, -1)
    return F.pad(last, (0, channels - last.shape[-1])).flatten(1).contiguous()


def input_matrix(x: Tensor, channels: int, problem: Problem) -> Tensor:
    """x: (N, in, H, W), the channels of one group -> (N * H' * W', kh * kw * channels)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = problem.weight[2:], problem.stride, problem.padding, problem.dilation
    pixels = x.permute(0, 2, 3, 1)
    if channels > x.shape[1] or ph or pw:
        pixels = F.pad(pixels, (0, channels - x.shape[1], pw, pw, ph, ph))
    if kh == kw == 1:
        return pixels[:, ::sh, ::sw].reshape(-1, channels)
    # views until the last step, which is the one copy
    tall = pixels.unfold(1, dh * (kh - 1) + 1, sh)[..., ::dh]
    windows = tall.unfold(2, dw * (kw - 1) + 1, sw)[..., ::dw]
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * channels)


def output_size(x: Tensor, problem: Problem) -> tuple[int, int]:
    """(H', W') for x: (N, in, H, W)."""
    sizes = [
        (x.shape[2 + i] + 2 * problem.padding[i] - problem.dilation[i] * (problem.weight[2 + i] - 1) - 1)
        // problem.stride[i]
        + 1
        for i in range(2)
    ]
    return sizes[0], sizes[1]


def from_rows(rows: Tensor, x: Tensor, problem: Problem) -> Tensor:
    """rows: (N * H' * W', out), of the product for x -> (N, out, H', W')."""
    return rows.view(x.shape[0], *output_size(x, problem), -1).permute(0, 3, 1, 2)
