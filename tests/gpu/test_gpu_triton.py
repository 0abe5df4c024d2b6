"""The Triton products on a real GPU against float64: patterns, remainders, dtypes, few and many rows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nmbench.kernels.nmtensor import compress
from nmbench.sparsity import NMPattern, nm_mask

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def near(got: torch.Tensor, expected: torch.Tensor) -> None:
    bound = TOLERANCE[got.dtype]
    torch.testing.assert_close(got.double(), expected, rtol=bound, atol=bound * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("rows", [1, 7, 32, 33, 300])
@pytest.mark.parametrize("shape", [(256, 512), (72, 242)])
@pytest.mark.parametrize("text", ["2:4", "1:4", "2:8", "4:8", "1:16", "3:5", "1:1"])
def test_linear(text: str, shape: tuple[int, int], rows: int, dtype: torch.dtype) -> None:
    from nmbench.kernels.nm_triton import ops

    pattern = NMPattern.parse(text)
    weight = torch.randn(shape)
    weight = (weight * nm_mask(weight, pattern)).to("cuda", dtype)
    x, bias = torch.randn(rows, shape[1], device="cuda", dtype=dtype), torch.randn(shape[0], device="cuda", dtype=dtype)
    stored = compress(weight, pattern)
    got = ops.linear(x, stored.values, stored.positions, bias, shape[0], pattern.n, pattern.m)
    near(got, F.linear(x.double(), weight.double(), bias.double()))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [64, 18])
@pytest.mark.parametrize("text", ["2:4", "1:16", "3:5"])
def test_convolution(text: str, channels: int, kernel: int) -> None:
    from nmbench.kernels.nm_triton import ops

    pattern = NMPattern.parse(text)
    weight = torch.randn(40, channels, kernel, kernel)
    weight = (weight * nm_mask(weight, pattern)).to("cuda", torch.float16)
    x = torch.randn(2, channels, 14, 10, device="cuda", dtype=torch.float16)
    stored, pad = compress(weight, pattern), kernel // 2
    sizes = ([40, kernel, kernel], pattern.n, pattern.m, [1, 1], [pad, pad], [1, 1], 1)
    got = ops.conv2d(x, stored.values, stored.positions, None, *sizes)
    near(got, F.conv2d(x.double(), weight.double(), padding=pad))
