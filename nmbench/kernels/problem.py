"""What a backend is asked, and a convolution as the matrix product that some backends do instead.

`channels` may be more than `in`: the rest is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.sparsity import NMPattern

Pair = tuple[int, int]
#: what a backend was tuned to, for instance (("alg_id", 3),); plain numbers, so that they can be kept in a file
Settings = tuple[tuple[str, int], ...]


def dtype_name(dtype: torch.dtype) -> str:
    """As people write it: "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def is_float8(dtype: torch.dtype) -> bool:
    """Any of the 8-bit floats."""
    return dtype.is_floating_point and dtype.itemsize == 1


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """int32 for int8, bfloat16 for the 8-bit floats (which have no range for sums), else `dtype` itself."""
    if dtype == torch.int8:
        return torch.int32
    return torch.bfloat16 if is_float8(dtype) else dtype


@dataclass(frozen=True)
class Problem:
    """One layer at one shape of input.

    Attributes:
        kind: "linear" (weight (out, in), input (..., in)) or "conv2d" (weight OIHW, input NCHW).
        weight: shape of the weight. rows: rows of the matrix product: all leading dimensions of a linear layer's input,
            batch x output height x output width of a convolution.
        input: shape of the input. A converted layer may be called with other leading sizes: read those off the input.
        pattern: what the weight keeps to; its axis is "input".
        dtype, device: of weight and input; device is a type, "cuda" or "cpu".
        capability: CUDA compute capability, (0, 0) on a CPU.
        stride, padding, dilation, groups: of a convolution, as in torch.nn.functional.conv2d.
        settings: one of `Backend.variants`, or () for the backend's default.
    """

    kind: Literal["linear", "conv2d"]
    weight: tuple[int, ...]
    input: tuple[int, ...]
    rows: int
    pattern: NMPattern
    dtype: torch.dtype
    device: str
    capability: tuple[int, int] = (0, 0)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    settings: Settings = ()

    def on(self, device: torch.device, dtype: torch.dtype) -> Problem:
        """The same with a weight of `dtype` on `device`."""
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
        return replace(self, device=device.type, capability=capability, dtype=dtype)

    @property
    def depthwise(self) -> bool:
        """Has each group of the convolution a single input channel, so that there is no reduction over channels?"""
        return self.kind == "conv2d" and self.groups > 1 and self.weight[1] == 1


def linear_problem(
    weight: tuple[int, ...], x: tuple[int, ...], pattern: NMPattern, dtype: torch.dtype, device: torch.device
) -> Problem:
    """weight: (out, in), x: (..., in)."""
    rows = torch.Size(x[:-1]).numel()
    return Problem("linear", tuple(weight), tuple(x), rows, pattern, dtype, "cpu").on(device, dtype)


def conv2d_problem(
    weight: tuple[int, ...],
    x: tuple[int, ...],
    pattern: NMPattern,
    dtype: torch.dtype,
    device: torch.device,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Problem:
    """weight: (out, in / groups, kh, kw), x: (N, in, H, W)."""
    height, width = output_size(x[2:], weight[2:], stride, padding, dilation)
    sizes = (tuple(weight), tuple(x), x[0] * height * width, pattern, dtype, "cpu", (0, 0))
    return Problem("conv2d", *sizes, stride, padding, dilation, groups).on(device, dtype)


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Pair:
    """(H', W') of a convolution's output for an input of `size` (H, W); the others are (height, width) too."""
    height, width = (
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return height, width


def weight_matrix(weight: Tensor, channels: int) -> Tensor:
    """weight: (out, in, kh, kw) -> (out, kh * kw * channels), contiguous."""
    last = weight.movedim(1, -1)
    return F.pad(last, (0, channels - last.shape[-1])).flatten(1).contiguous()


def input_matrix(x: Tensor, channels: int, problem: Problem) -> Tensor:
    """x: (N, in, H, W), the channels of one group -> (N * H' * W', kh * kw * channels).

    Without a copy for 1x1 of stride 1 on a channels_last input.
    """
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


def from_rows(rows: Tensor, x: Tensor, problem: Problem) -> Tensor:
    """rows: (N * H' * W', out), of the product for x -> (N, out, H', W')."""
    size = output_size(x.shape[2:], problem.weight[2:], problem.stride, problem.padding, problem.dilation)
    return rows.view(x.shape[0], *size, -1).permute(0, 3, 1, 2)
