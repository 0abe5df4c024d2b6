"""Random operands: data that are all zero, or all alike, would flatter every kernel (and save power)."""

import torch
from torch import Tensor

from nmbench.kernels.conversion import accuracy
from nmbench.kernels.problem import Problem
from nmbench.sparsity import nm_mask

#: of the relative error in the Frobenius norm; int8 sums are exact, fp8 products come back in bfloat16
TOLERANCE = {
    torch.float32: 2e-3,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
    torch.int8: 0.0,
    torch.float8_e4m3fn: 2e-2,
}
_CHECKED_ROWS = 256


class Source:
    """Random tensors from a generator of its own, so that the global one is left alone."""

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Standard normal; int8 has a standard deviation of 30. Four dimensions are channels_last."""
        memory = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        wide = torch.randn(shape, generator=self.generator, device=self.device)
        if dtype == torch.int8:
            wide = (30 * wide).round_().clamp_(-127, 127)
        return wide.to(dtype).contiguous(memory_format=memory)

    def sparse(self, problem: Problem) -> Tensor:
        """A weight that keeps to the problem's pattern, by magnitude, as pruning leaves it."""
        wide = self.draw(problem.weight, torch.float32)
        masked = wide * nm_mask(wide, problem.pattern)
        if problem.dtype == torch.int8:
            masked = (30 * masked).round_().clamp_(-127, 127)
        return masked.to(problem.dtype)


def reference(problem: Problem, x: Tensor, weight: Tensor) -> Tensor:
    """The product of the first rows (the first image): in float64 on a CPU and of integers, else in float32."""
    kind = torch.float64 if x.device.type == "cpu" or x.dtype == torch.int8 else torch.float32
    precise = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        part = x[:_CHECKED_ROWS] if problem.kind == "linear" else x[:1]
        return accuracy.reference(part, weight, None, problem, kind)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = precise


def relative(y: Tensor, right: Tensor) -> float:
    """|y - right| / |right|, Frobenius norms, over the rows that `right` has; inf where shapes differ."""
    part = y[: len(right)]
    if part.shape != right.shape:
        return float("inf")
    size = float(right.norm())
    gap = float((part.to(right.dtype) - right).norm())
    return gap / size if size else gap
