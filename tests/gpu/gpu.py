"""What the tests on a GPU share.

NEEDS_GPU    the mark that skips them without one, in words
baked, data  a weight that keeps to a pattern, and random numbers, on the GPU
CUDA         the device
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nmbench.sparsity import NMPattern, nm_mask

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CUDA = torch.device("cuda")


def baked(shape: tuple[int, ...], pattern: str, dtype: torch.dtype, seed: int = 0) -> Tensor:
    dense = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[1] ** 0.5
    masked = dense * nm_mask(dense, NMPattern.parse(pattern))
    return ((masked * 400).round().clamp(-127, 127) if dtype == torch.int8 else masked).to(dtype).to(CUDA)


def data(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 1) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return ((drawn * 20).round().clamp(-127, 127) if dtype == torch.int8 else drawn).to(dtype).to(CUDA)
