"""The checks of a backend of nmbench.kernels, on made-up layers. The context is a BackendBench.

Each function is one check; `BACKEND_CHECKS` is their order. On a machine where the backend refuses everything only the
checks that run nothing are made.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nmbench.kernels.backend import Backend, Problem, refused, result_dtype
from nmbench.kernels.conversion.accuracy import allowed, reference, worst
from nmbench.kernels.problem import conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern, nm_mask
from nmbench.testing.battery import Failed, Skip, check, collected

__all__ = ["BACKEND_CHECKS", "BackendBench", "Case"]

_PATTERNS = ("2:4", "1:4", "2:8", "1:16", "4:8", "3:5")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.float8_e4m3fn)
_LINEAR = ((7, 23), (64, 128), (100, 250))
_ROWS = (1, 5, 40)
_CONV: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((64, 64, 3, 3), {"padding": (1, 1)}),
    ((36, 64, 1, 1), {}),
    ((64, 60, 1, 1), {"stride": (2, 2)}),
    ((64, 64, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    ((128, 64, 3, 3), {"groups": 2}),
)


@dataclass(frozen=True)
class Case:
    """One layer with its input, and what it gives in float64."""

    problem: Problem
    weight: Tensor
    x: Tensor
    bias: Tensor | None
    right: Tensor


class BackendBench:
    """Makes the layers that `backend` takes, on a GPU if there is one that it runs on, else on the CPU."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        here = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        any_here = any(refused(backend, problem) is None for problem in _problems(here))
        self.device = here if any_here else torch.device("cpu")

    def cases(self, kind: str, bias: bool = True) -> Iterator[Case]:
        """Those whose problem and whose weight it takes. Raises Skip if there are none."""
        asked = [p for p in _problems(self.device) if p.kind == kind]
        taken = [case for p in asked if refused(self.backend, p) is None and self._packs(case := self.case(p, bias))]
        if not taken:
            raise Skip(f"it takes no {kind} on {self.device.type}: {refused(self.backend, asked[-1])}")
        return iter(taken)

    def _packs(self, case: Case) -> bool:
        """Some backends can say of a weight only, not of its pattern, whether they take it."""
        try:
            self.backend.pack(case.weight, case.problem)
        except ValueError:
            return False
        return True

    def case(self, problem: Problem, bias: bool = True) -> Case:
        """Numbers for a problem, the same each time."""
        draw = torch.Generator().manual_seed(11)

        def numbers(shape: tuple[int, ...]) -> Tensor:
            drawn = torch.randn(shape, generator=draw)
            return (drawn * 20).round().clamp(-127, 127) if problem.dtype == torch.int8 else drawn

        weight = numbers(problem.weight)
        weight = (weight * nm_mask(weight, problem.pattern)).to(problem.dtype).to(self.device)
        x = numbers(problem.input).to(problem.dtype).to(self.device)
        shift = numbers((problem.weight[0],)).to(result_dtype(problem.dtype)).to(self.device) if bias else None
        return Case(problem, weight, x, shift, reference(x, weight, shift, problem))

    def run(self, case: Case, packed: dict[str, Tensor] | None = None, x: Tensor | None = None) -> Tensor:
        """What the backend gives."""
        packed = self.backend.pack(case.weight, case.problem) if packed is None else packed
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.backend.run(case.x if x is None else x, packed, case.bias, case.problem)


def _problems(device: torch.device) -> Iterator[Problem]:
    for pattern, dtype in itertools.product(map(NMPattern.parse, _PATTERNS), _DTYPES):
        for shape, rows in itertools.product(_LINEAR, _ROWS):
            yield linear_problem(shape, (rows, shape[1]), pattern, dtype, device)
        for weight, options in _CONV:
            x = (2, weight[1] * options.get("groups", 1), 7, 6)
            yield conv2d_problem(weight, x, pattern, dtype, device, **options)


def _right(got: Tensor, case: Case, what: str = "") -> None:
    dtype = result_dtype(case.problem.dtype)
    p = case.problem
    name = f"{p.kind} {tuple(p.weight)} of {p.pattern} in {p.dtype} for an input of {tuple(case.x.shape)}{what}"
    if got.dtype != dtype:
        raise Failed(f"{name} gives {got.dtype}, not {dtype}")
    off = worst(got, case.right)
    if off > allowed(case.right, 0.0, dtype, case.weight[0].numel()):
        raise Failed(f"{name} is off by {off:.3g}")


@check("it is a Backend with a name")
def backend_is_declared(bench: BackendBench) -> None:
    if not isinstance(bench.backend, Backend):
        raise Failed(f"{bench.backend!r} is not a nmbench.kernels.Backend")
    if not bench.backend.name or not bench.backend.name.replace("-", "").replace("_", "").isalnum():
        raise Failed(f"its name is {bench.backend.name!r}")


@check("it says what it refuses in words, the same each time, whatever it is asked")
def refusing_never_raises(bench: BackendBench) -> None:
    odd = next(_problems(torch.device("cpu")))
    asked = [*_problems(bench.device), *(replace(odd, device=name) for name in ("cuda", "xpu", "meta"))]
    asked += [replace(odd, dtype=dtype) for dtype in (torch.float64, torch.complex64, torch.bool, torch.int32)]
    asked += [replace(odd, pattern=NMPattern(2, 4, "kernel")), replace(odd, capability=(7, 0), device="cuda")]
    asked += [replace(odd, weight=(8, 1, 3, 3), input=(1, 8, 5, 5), kind="conv2d", groups=8), replace(odd, rows=0)]
    for problem in asked:
        try:
            said = [bench.backend.refusal(problem) for _ in range(2)]
        except Exception as error:
            raise Failed(f"refusal() raised {type(error).__name__} for {problem}") from error
        if said[0] != said[1] or not (said[0] is None or (isinstance(said[0], str) and said[0].strip())):
            raise Failed(f"refusal() gives {said} for {problem}")


@check("a linear layer gives what float64 gives, for every pattern, dtype and shape that it takes, with bias")
def linear_is_right(bench: BackendBench) -> None:
    for case in bench.cases("linear"):
        _right(bench.run(case), case)


@check("a linear layer without bias too")
def linear_without_bias_is_right(bench: BackendBench) -> None:
    for case in bench.cases("linear", bias=False):
        _right(bench.run(case), case)


@check("a convolution gives what float64 gives, with stride, padding, dilation and groups where it takes them")
def convolution_is_right(bench: BackendBench) -> None:
    for case in bench.cases("conv2d"):
        _right(bench.run(case), case)
        _right(bench.run(case, x=case.x.to(memory_format=torch.channels_last)), case, " in channels_last")


@check("an input with other leading dimensions than it was packed for, none of them or an empty one, is taken")
def other_leading_sizes_are_taken(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 0, None, 7):
        packed = bench.backend.pack(case.weight, case.problem)
        for lead in ((), (0,), (2, 0), (3, 2), (2, 3, 11)):
            x = case.x[:1].expand(*lead, 1, -1).reshape(*lead, case.x.shape[1])
            other = replace(case, x=x, right=reference(x, case.weight, case.bias, case.problem))
            _right(bench.run(other, packed), other)


@check("an input that is not contiguous is taken")
def strides_do_not_matter(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 0, None, 5):
        x = case.x.t().contiguous().t()
        wide = torch.cat([case.x, case.x], 1)[:, : case.x.shape[1]]
        for one in (x, wide):
            _right(bench.run(case, x=one), case, " with other strides")


@check("it changes neither its input nor the packed weight, and gives equal bits again")
def nothing_is_changed(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 0, None, 5):
        packed = bench.backend.pack(case.weight, case.problem)
        kept = {key: value.clone() for key, value in packed.items()}
        x = case.x.clone()
        first, again = bench.run(case, packed), bench.run(case, packed)
        if not torch.equal(first, again):
            raise Failed(f"{case.problem} gives other bits the second time")
        same = torch.equal(x, case.x) and all(torch.equal(kept[key], packed[key]) for key in kept)
        if not same:
            raise Failed(f"{case.problem}: the input or the packed weight was changed")


@check("a weight that is not of its pattern is refused with a ValueError, or multiplied rightly all the same")
def broken_patterns_are_told(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 0, None, 9):
        weight = torch.ones_like(case.weight, dtype=torch.float32).to(case.weight.dtype)
        broken = replace(case, weight=weight, right=reference(case.x, weight, case.bias, case.problem))
        try:
            packed = bench.backend.pack(weight, case.problem)
        except ValueError:
            continue
        _right(bench.run(broken, packed), broken, " that breaks the pattern")


@check("groups with fewer non-zeros than N, and empty ones, are fine")
def fewer_is_fine(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 0, None, 7):
        weight = case.weight.clone()
        weight[:, : weight.shape[1] // 2] = 0
        weight[0] = 0
        thin = replace(case, weight=weight, right=reference(case.x, weight, case.bias, case.problem))
        _right(bench.run(thin), thin)


@check("the weight can be got back")
def weights_come_back(bench: BackendBench) -> None:
    for kind in ("linear", "conv2d"):
        try:
            cases = list(itertools.islice(bench.cases(kind), 0, None, 5))
        except Skip:
            if kind == "linear":
                raise
            continue
        for case in cases:
            back = bench.backend.unpack(bench.backend.pack(case.weight, case.problem), case.problem)
            if back.dtype != case.weight.dtype or not torch.equal(back.float(), case.weight.float()):
                raise Failed(f"unpack() gives another weight for {case.problem}")


@check("every setting that it offers gives the right result")
def variants_are_right(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 0, None, 5):
        packed = bench.backend.pack(case.weight, case.problem)
        offered = bench.backend.variants(case.x, packed, case.bias, case.problem)
        if not offered or offered[0] != ():
            raise Failed("variants() does not begin with (), its default")
        for settings in offered:
            tuned = replace(case, problem=replace(case.problem, settings=settings))
            _right(bench.run(tuned, packed), tuned, f" with {dict(settings)}")


@check("torch.compile takes it into one graph")
def it_compiles(bench: BackendBench) -> None:
    for case in itertools.islice(bench.cases("linear"), 1):
        packed = bench.backend.pack(case.weight, case.problem)
        compiled = torch.compile(
            lambda x, packed=packed, case=case: bench.backend.linear(x, packed, case.bias, case.problem),
            fullgraph=True,
            backend="aot_eager",
        )
        _right(compiled(case.x), case, " compiled")


BACKEND_CHECKS = collected(globals())
