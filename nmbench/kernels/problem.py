"""Problems, made from tensors' shapes.

linear_problem, conv2d_problem   one layer at one shape of input
on                               the same problem for another device and dtype
"""

from __future__ import annotations

from dataclasses import replace

import torch

from nmbench.kernels.backend import Problem
from nmbench.kernels.lowering import output_size
from nmbench.sparsity import NMPattern

__all__ = ["conv2d_problem", "linear_problem", "on"]

Pair = tuple[int, int]


def linear_problem(
    weight: tuple[int, ...], x: tuple[int, ...], pattern: NMPattern, dtype: torch.dtype, device: torch.device
) -> Problem:
    """weight: (out, in), x: (..., in)."""
    rows = torch.Size(x[:-1]).numel()
    return on(Problem("linear", tuple(weight), tuple(x), rows, pattern, dtype, "cpu"), device, dtype)


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
    problem = Problem(
        "conv2d", tuple(weight), tuple(x), 0, pattern, dtype, "cpu", (0, 0), stride, padding, dilation, groups
    )
    height, width = output_size(torch.empty(x, device="meta"), problem)
    return on(replace(problem, rows=x[0] * height * width), device, dtype)


def on(problem: Problem, device: torch.device, dtype: torch.dtype) -> Problem:
    """`problem` with a weight of `dtype` on `device`."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    return replace(problem, device=device.type, capability=capability, dtype=dtype)
