"""Runs Triton kernels under the interpreter, in one process of its own: triton reads TRITON_INTERPRET at its import,
and this process may have imported it already.

run(name, *args)   a function of this module in that process
"""

import atexit
import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from nmbench.kernels.backend import Problem
from nmbench.sparsity import NMPattern, nm_mask

#: taken before any test has a cache of its own
ENVIRONMENT = {**os.environ, "TRITON_INTERPRET": "1"}


@functools.cache
def _pool() -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    atexit.register(pool.shutdown)
    with mock.patch.dict(os.environ, ENVIRONMENT, clear=True):
        pool.submit(torch.set_num_threads, 1).result()
    return pool


def run(function: Any, *args: Any, **kwargs: Any) -> Any:
    return _pool().submit(function, *args, **kwargs).result()


def weight_of(shape: tuple[int, ...], pattern: NMPattern, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """A random weight that keeps to the pattern."""
    dense = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    masked = dense * nm_mask(dense, pattern)
    return (masked * 20).round().clamp(-127, 127).to(dtype) if dtype == torch.int8 else masked.to(dtype)


def packed(weight: Tensor, pattern: NMPattern) -> tuple[Tensor, Tensor]:
    """(values, positions) written out entry by entry, to be compared with what the kernels read."""
    n, m = pattern.n, pattern.m
    rows = weight.movedim(1, -1).reshape(-1, weight.shape[1])
    rows = torch.nn.functional.pad(rows, (0, -weight.shape[1] % m))
    values, number = [], 0
    for entry, group in enumerate(rows.reshape(-1, m)):
        order = sorted(range(m), key=lambda p, g=group: (g[p].item() == 0, p))
        for j, p in enumerate(sorted(order[:n])):
            values.append(group[p])
            number |= p << ((entry * n + j) * pattern.index_bits)
    size = (len(values) * pattern.index_bits + 7) // 8
    raw = number.to_bytes(size, "little")
    return torch.stack(values), torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(
        0, dtype=torch.uint8
    )


def data(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 1) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (x * 20).round().clamp(-127, 127).to(dtype) if dtype == torch.int8 else x.to(dtype)


def matmul(*args: Any) -> Tensor:
    from nmbench.kernels.triton.matmul import matmul

    return matmul(*args)


def split_k(*args: Any) -> Tensor:
    from nmbench.kernels.triton.split_k import split_k

    return split_k(*args)


def conv2d(*args: Any, **kwargs: Any) -> Tensor:
    from nmbench.kernels.triton.conv import conv2d

    return conv2d(*args, **kwargs)


def backend(x: Tensor, weight: Tensor, bias: Tensor, problem: Problem) -> Tensor:
    """Through the backend's own packing."""
    from nmbench.kernels.backends.triton import Triton

    triton = Triton()
    assert triton.refusal(problem) is None
    run = triton.linear if problem.kind == "linear" else triton.conv2d
    return run(x, triton.pack(weight, problem), bias, problem)


def last_pixel_of_a_large_image() -> tuple[Tensor, Tensor]:
    """(got, right) where the last line of an image is more than 2^31 elements behind the first. It takes no memory."""
    from nmbench.kernels import compress
    from nmbench.kernels.triton import ops

    channels, height, width = 16, 134_300, 1000
    x = torch.zeros(1, height, width, channels, dtype=torch.int8).permute(0, 3, 1, 2)
    x[0, :, -1, -1] = 1
    weight = torch.zeros(4, channels, 1, 1, dtype=torch.int8)
    weight[:, 0] = 3
    stored, stride = compress(weight, NMPattern(1, 4)), (height - 1, width - 1)
    got = ops.conv2d(x, stored.values, stored.positions, None, [4, 1, 1], 1, 4, list(stride), [0, 0], [1, 1], 1)
    right = torch.nn.functional.conv2d(x[:, :, :: stride[0], :: stride[1]].double(), weight.double())
    return got, right


def assert_near(got: Tensor, expected: Tensor) -> None:
    """expected: float64, exact but for its own rounding. One rounding to got's dtype, and float32 sums, are allowed."""
    tolerance = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.int32: 0}[got.dtype]
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


def renew(weights: list[Tensor], masks: list[Tensor], pattern: NMPattern, groupings: list[Any]) -> Any:
    """(modes, masks, masked weights, flips) after one fused pass over all, and masked weights made without a mask."""
    from nmbench.sparsity.fast import fused as _fused
    from nmbench.sparsity.fast.triton_mask import Renewal, mode_of
    from nmbench.sparsity.mask import physical_layout

    layouts = [physical_layout(w, g, pattern.axis) for w, g in zip(weights, groupings, strict=True)]
    modes = [mode_of(w, m, at, pattern.m) for w, m, at in zip(weights, masks, layouts, strict=True)]
    renewal = Renewal(weights, masks, layouts, pattern.n, pattern.m)
    memory, flips = renewal.memory(), torch.zeros(len(weights), dtype=torch.int64)
    renewal.run(memory, flips)
    alone = [_fused.masked(w, at, (pattern.n, pattern.m)) for w, at in zip(weights, layouts, strict=True)]
    return modes, masks, [view.clone() for view in renewal.views(memory)], flips, alone


def decay(grads: list[Tensor], weights: list[Tensor], masks: list[Tensor], lambda_w: float) -> list[Tensor]:
    from nmbench.sparsity.fast.triton_decay import Decay

    Decay(grads, weights, masks, lambda_w).run()
    return grads


def stored(weight: Tensor, pattern: NMPattern) -> tuple[str, Tensor, Tensor, int, Tensor]:
    """(mode, values, positions, first wrong group, the weight again) by the kernels of storage."""
    from nmbench.kernels.triton.compress import compress, compress_kernel
    from nmbench.kernels.triton.decompress import decompress

    modes = []

    class Watched:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *args, **kwargs: (modes.append(kwargs["MODE"]), compress_kernel[grid](*args, **kwargs))

    with mock.patch("nmbench.kernels.triton.compress.compress_kernel", Watched()):
        values, positions, wrong = compress(weight, pattern)
    back = decompress(values, positions, pattern, tuple(weight.shape))
    return modes[0] if modes else "", values, positions.clone(), int(wrong), back
