"""What the tests on a GPU share.

NEEDS_GPU    the mark that skips them without one, in words
baked, data  a weight that keeps to a pattern, and random numbers, on the GPU
CUDA         the device
captured     a call as a CUDA graph; waiting_is_an_error: a context
"""

import contextlib
from collections.abc import Callable, Iterator

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


def captured(call: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The graph, and the tensor that a replay fills; warmed up on a side stream, as a capture wants it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = call()
    return graph, y


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
