"""The backend `triton`: our own kernels for any N:M, on a GPU, or on a CPU under TRITON_INTERPRET=1 (slow)."""

import importlib.util
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from nmbench.kernels.backend import DEPTHWISE, Backend, Kind, Problem, Refusal, Settings, no_gpu
from nmbench.kernels.nmtensor import compress
from nmbench.kernels.problem import dtype_name
from nmbench.kernels.triton import ops

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.float8_e4m3fn)


class Triton(Backend):
    """Compressed weights, expanded in registers and multiplied on the tensor cores; results are of `result_dtype`."""

    name = "triton"

    def refusal(self, problem: Problem) -> Refusal | None:
        """Why not: triton missing, pattern axis, dtype, device, capability, depthwise; else None."""
        if importlib.util.find_spec("triton") is None:
            return Refusal("triton is not installed", Kind.MACHINE)
        if problem.pattern.axis != "input":
            return Refusal("axis 'kernel': groups do not run along the reduction", Kind.PATTERN)
        if problem.dtype not in _DTYPES:
            return Refusal(f"no kernel for {dtype_name(problem.dtype)}", Kind.DTYPE)
        if problem.dtype == torch.float8_e4m3fn and problem.kind == "conv2d":
            return Refusal("no convolution of float8_e4m3fn", Kind.DTYPE)
        if os.environ.get("TRITON_INTERPRET") != "1" and (refusal := no_gpu(problem)):
            return refusal
        return DEPTHWISE if problem.depthwise else None

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """{"values", "positions"} of the compressed weight. ValueError if it breaks `problem.pattern`."""
        packed = compress(weight, problem.pattern)
        return {"values": packed.values, "positions": packed.positions}

    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (..., in) -> (..., out); the split-K kernel up to 32 rows."""
        n, m = problem.pattern.n, problem.pattern.m
        splits = dict(problem.settings).get("splits", 0)
        y: Tensor = ops.linear(x, packed["values"], packed["positions"], bias, problem.weight[0], n, m, splits)
        return y

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """Up to 32 rows: the reduction in as many parts as seem right, and in one, which needs no second launch."""
        if problem.kind != "linear" or x.numel() // max(1, x.shape[-1]) > ops.SPLIT_K_ROWS:
            return [()]
        from nmbench.kernels.triton.split_k import splits_for

        m = problem.pattern.m
        groups = -(-x.shape[-1] // m)
        return [()] if splits_for(problem.weight[0], groups, m, x.device) == 1 else [(), (("splits", 1),)]

    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W'), channels_last; an x that is not channels_last is copied."""
        out, _, *kernel = problem.weight
        n, m = problem.pattern.n, problem.pattern.m
        pairs = (list(problem.stride), list(problem.padding), list(problem.dilation))
        y: Tensor = ops.conv2d(
            x, packed["values"], packed["positions"], bias, [out, *kernel], n, m, *pairs, problem.groups
        )
        return y
