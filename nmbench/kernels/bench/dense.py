"""The dense products that a sparse one has to beat: every way that torch and other engines have; the fastest counts.

16-bit rows are held against the faster of float16 and bfloat16. The dense weights are dense: no zeros that save power.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.kernels.bench import engines
from nmbench.kernels.bench.way import Way
from nmbench.kernels.prepacked import prepack
from nmbench.kernels.problem import Problem

Product = Callable[[Tensor, Tensor], Tensor]


def variants(problem: Problem, dtype: torch.dtype, compiled: bool) -> Iterator[Way]:
    """The ways worth timing; a way may raise when it is called, which rules it out. compiled: with torch.compile."""
    if dtype in (torch.int8, torch.float8_e4m3fn):
        if problem.kind == "linear":
            yield from _narrow(dtype)
        return
    kinds = (torch.bfloat16, torch.float16) if dtype in (torch.bfloat16, torch.float16) else (dtype,)
    for kind in kinds:
        short = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(kind, "fp32")
        yield Way(f"eager {short}", kind, _eager(problem))
        if problem.device == "cpu":
            yield from _prepacked(replace(problem, dtype=kind), f"onednn prepacked {short}")
            yield from engines.ways(replace(problem, dtype=kind))
        if compiled:
            yield Way(f"compiled {short}", kind, _compiled(_eager(problem)))


def _eager(problem: Problem) -> Product:
    if problem.kind == "linear":
        return F.linear

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, problem.stride, problem.padding, problem.dilation, problem.groups)

    return convolve


def _prepacked(problem: Problem, name: str) -> Iterator[Way]:
    made = prepack(torch.zeros(problem.weight, dtype=problem.dtype), problem)
    if made is None:
        return
    product = made[1]

    def prepare(weight: Tensor) -> Tensor:
        again = prepack(weight, problem)
        assert again is not None  # it was made for the same sizes before
        return again[0]

    yield Way(name, problem.dtype, lambda x, weight: product(x, weight, None), prepare=prepare)


def _compiled(product: Product) -> Product:
    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return product(x, weight)

    compiled: Product = torch.compile(plain, mode="max-autotune-no-cudagraphs", dynamic=False)
    return compiled


def _narrow(dtype: torch.dtype) -> Iterator[Way]:
    """torch's dense products of 8-bit operands; the libraries' own limits rule some shapes out."""
    if dtype == torch.int8:
        yield Way("torch._int_mm", dtype, lambda x, weight: torch._int_mm(x, weight.t()), least_rows=32)
        return
    for fast in (True, False):
        yield Way(f"torch._scaled_mm{', fast sums' if fast else ''}", dtype, _scaled(fast), least_rows=16)


def _scaled(fast: bool) -> Product:
    scales: dict[torch.device, Tensor] = {}

    def run(x: Tensor, weight: Tensor) -> Tensor:
        if x.device not in scales:  # made once: filling it is a kernel of its own
            scales[x.device] = torch.ones((), device=x.device)
        one = scales[x.device]
        y: Tensor = torch._scaled_mm(x, weight.t(), one, one, out_dtype=torch.bfloat16, use_fast_accum=fast)
        return y

    return run
