"""The kernels as operators of torch, so that torch.compile takes a layer that uses them without a graph break.

`torch.library.custom_op` rather than `triton_op`: what is launched depends on the number of rows, on the GPU and on
the autotuner's choice, which is Python that Inductor need not trace, and the interpreter runs it as it is. No gradient
is defined: a converted model is for inference. Importing this needs no triton.
"""

import torch
from torch import Tensor

from nmbench._util.devices import on
from nmbench.kernels.problem import output_size, result_dtype
from nmbench.sparsity import NMPattern

SPLIT_K_ROWS = 32


@torch.library.custom_op(
    "nmbench::nm_linear",
    mutates_args=(),
    schema="(Tensor x, Tensor values, Tensor positions, Tensor? bias, int outs, int n, int m, int splits=0) -> Tensor",
)
def linear(
    x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, outs: int, n: int, m: int, splits: int = 0
) -> Tensor:
    """x (..., in) -> (..., outs), of `result_dtype`; up to 32 rows take the split-K kernel, of so many `splits`."""
    from nmbench.kernels.triton.matmul import matmul
    from nmbench.kernels.triton.split_k import split_k

    flat = x.reshape(-1, x.shape[-1])
    about = (flat, values, positions, bias, outs, NMPattern(n, m))
    with on(x.device):
        y = split_k(*about, splits or None) if flat.shape[0] <= SPLIT_K_ROWS else matmul(*about)
    return y.view(*x.shape[:-1], outs)


@linear.register_fake
def _(
    x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, outs: int, n: int, m: int, splits: int = 0
) -> Tensor:
    return x.new_empty((*x.shape[:-1], outs), dtype=result_dtype(x.dtype))


@torch.library.custom_op(
    "nmbench::nm_conv2d",
    mutates_args=(),
    schema="(Tensor x, Tensor values, Tensor positions, Tensor? bias, int[] kernel, int n, int m, int[] stride, "
    "int[] padding, int[] dilation, int groups) -> Tensor",
)
def conv2d(
    x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, kernel: list[int], n: int, m: int,
    stride: list[int], padding: list[int], dilation: list[int], groups: int,
) -> Tensor:  # fmt: skip
    """x (batch, in, H, W) -> (batch, out, H', W'), channels_last; kernel: (out, kh, kw)."""
    from nmbench.kernels.triton import conv

    out, kh, kw = kernel
    s, p, d = ((first, second) for first, second in (stride, padding, dilation))
    with on(x.device):
        return conv.conv2d(x, values, positions, bias, (out, kh, kw), NMPattern(n, m), s, p, d, groups)


@conv2d.register_fake
def _(
    x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, kernel: list[int], n: int, m: int,
    stride: list[int], padding: list[int], dilation: list[int], groups: int,
) -> Tensor:  # fmt: skip
    size = output_size(x.shape[2:], kernel[1:], stride, padding, dilation)
    return x.new_empty((x.shape[0], *size, kernel[0]), dtype=result_dtype(x.dtype)).permute(0, 3, 1, 2)
