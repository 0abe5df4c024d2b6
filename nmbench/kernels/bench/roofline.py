"""What this device reaches: bytes a second, dense operations a second, the time of an empty kernel. All measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nmbench.kernels.bench import dense
from nmbench.kernels.bench.operands import Source
from nmbench.kernels.bench.options import DTYPES
from nmbench.kernels.bench.way import Way
from nmbench.kernels.problem import Problem, linear_problem
from nmbench.kernels.timing import bandwidth, compare, launch_floor, rotated
from nmbench.sparsity import NMPattern

#: a square product that is bound by arithmetic
_SIDE_GPU, _SIDE_CPU = 8192, 256


@dataclass(frozen=True)
class Roofline:
    """copy, read: bytes a second. floor_us: an empty kernel. flops: dtype name -> dense operations a second."""

    copy: float
    read: float
    floor_us: float
    flops: dict[str, float] = field(default_factory=dict)

    def bytes_us(self, count: int) -> float:
        """Microseconds that moving so many bytes takes at the higher of the two bandwidths."""
        return 1e6 * count / max(self.copy, self.read)

    def bound_us(self, count: int) -> float:
        """The same and an empty kernel: what a product that is bound by bytes is held against."""
        return self.bytes_us(count) + self.floor_us

    def flops_us(self, flops: int, dtype: str) -> float | None:
        """Microseconds of so many dense operations at the measured rate; None where it was not measured."""
        rate = self.flops.get(dtype)
        return 1e6 * flops / rate if rate else None


def measure(device: torch.device, dtypes: Sequence[str]) -> Roofline:
    """Bandwidth, floor, and the rate of a large square product for each dtype that has a dense product here."""
    gpu = device.type == "cuda"
    copy, read = bandwidth(device) if gpu else bandwidth(device, size=2**24, budget_s=0.05)
    rates = {name: rate for name in dtypes if (rate := _rate(device, DTYPES[name], _SIDE_GPU if gpu else _SIDE_CPU))}
    return Roofline(copy, read, launch_floor(device), rates)


def _operands(way: Way, problem: Problem, source: Source) -> tuple[Tensor, Any]:
    return way.lay(source.draw(problem.input, way.dtype)), way.prepare(source.draw(problem.weight, way.dtype))


def _rate(device: torch.device, dtype: torch.dtype, side: int) -> float | None:
    problem = linear_problem((side, side), (side, side), NMPattern(1, 1), dtype, device)
    source, best = Source(device), None
    for way in dense.variants(problem, dtype, compiled=False):
        if way.dtype != dtype:
            continue
        try:
            pairs = rotated(
                partial(_operands, way, problem, source),
                2 * side * side * dtype.itemsize,
                device,
            )
            calls = [lambda pair=pair, way=way: way.run(*pair) for pair in pairs]
            us = compare({way.name: calls}, device, budget_s=0.1)[way.name].us
        except Exception:  # no such product here: then it bounds nothing
            continue
        best = us if best is None else min(best, us)
    return None if best is None else 1e6 * 2 * side**3 / best
