"""The candidates of one case: every dense way, and every backend with every pattern, each on rotated buffers.

Bench        what the candidates of a case share: inputs, source of weights, number of copies
Candidate    one way to do the product
stored_bytes     of a compressed weight
dense_ways, sparse_ways    what can be timed; what cannot is told with its reason

Each is checked against the product in higher precision first: a wrong one is never timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nmbench.kernels.backend import Backend, Problem, refused
from nmbench.kernels.bench import dense
from nmbench.kernels.bench.operands import TOLERANCE, Source, reference, relative
from nmbench.kernels.bench.options import DTYPES, Options
from nmbench.kernels.bench.suites import Case
from nmbench.kernels.timing import copies
from nmbench.sparsity import NMPattern

__all__ = ["Bench", "Candidate", "dense_ways", "first_line", "sparse_ways", "stored_bytes"]

Told = list[dict[str, Any]]
#: of one operand: three times an L2 cache of 50 MB are 512 buffers of 0.3 MB
_MOST_COPIES = 512


@dataclass
class Candidate:
    """One way to do the product. calls: one a buffer set. facts: what the record says of it besides its time."""

    calls: list[Callable[[], object]]
    facts: dict[str, Any]


@dataclass
class Bench:
    """What the candidates of one case and dtype share."""

    case: Case
    dtype: str
    device: torch.device
    options: Options
    source: Source = field(init=False)
    _inputs: dict[tuple[torch.dtype, int], list[Tensor]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.source = Source(self.device)

    def inputs(self, dtype: torch.dtype, count: int, least_rows: int = 1) -> list[Tensor]:
        """`count` inputs, shared between the candidates that take this dtype and so many rows."""
        first, *rest = self.case.input
        shape = (max(first, least_rows), *rest) if self.case.kind == "linear" else self.case.input
        made = self._inputs.setdefault((dtype, shape[0]), [])
        while len(made) < count:
            made.append(self.source.draw(shape, dtype))
        return made[:count]

    def copies(self, weight_bytes: int, dtype: torch.dtype) -> int:
        """Copies of weight and input that together exceed the cache; one where nothing is timed."""
        if self.options.check_only:
            return 1
        return copies(weight_bytes + torch.Size(self.case.input).numel() * dtype.itemsize, self.device, _MOST_COPIES)

    def problem(self, pattern: NMPattern) -> Problem:
        """What the backends are asked."""
        case, gpu = self.case, self.device.type == "cuda"
        capability = torch.cuda.get_device_capability(self.device) if gpu else (0, 0)
        return Problem(case.kind, case.weight, case.input, case.rows, pattern, DTYPES[self.dtype], self.device.type,
                       capability, case.stride, case.padding, case.dilation, case.groups)  # fmt: skip


def dense_ways(bench: Bench, told: Told) -> dict[str, Candidate]:
    """Name -> every way that works; the others go into `told` with their reason."""
    case, found = bench.case, dict[str, Candidate]()
    compiled = bench.options.compiled and bench.device.type == "cuda" and not bench.options.check_only
    if compiled:
        torch._dynamo.reset()  # a function is recompiled only so often, and every case has a new shape
    for way in dense.variants(case, DTYPES[bench.dtype], compiled):
        count = bench.copies(way.dtype.itemsize * torch.Size(case.weight).numel(), way.dtype)
        try:
            inputs = bench.inputs(way.dtype, count, way.least_rows)
            weights = [bench.source.draw(case.weight, way.dtype) for _ in range(count)]
            with torch.inference_mode():
                error = relative(way.run(inputs[0], weights[0]), reference(case, inputs[0], weights[0]))
        except torch.OutOfMemoryError:
            raise
        except Exception as reason:  # torch's way to say that it has no such product here
            told.append({"way": way.name, "refused": first_line(reason)})
            continue
        if not error <= TOLERANCE[way.dtype]:
            told.append({"way": way.name, "error": error, "refused": f"wrong: relative error {error:.3g}"})
            continue
        calls = [partial(way.run, x, weight) for x, weight in zip(inputs, weights, strict=True)]
        found[way.name] = Candidate(list(calls), {"way": way.name, "error": error, "copies": count})
    if not found and not told:
        told.append({"way": "-", "refused": f"torch has no dense {case.kind} of {bench.dtype}"})
    return found


def sparse_ways(bench: Bench, pattern: NMPattern, backends: Mapping[str, Backend], told: Told) -> dict[str, Candidate]:
    """The same of the backends, with their own tunings, for one pattern."""
    case, dtype, problem = bench.case, DTYPES[bench.dtype], bench.problem(pattern)
    weight = bench.source.sparse(case, pattern, dtype)
    size = stored_bytes(case.weight, pattern, dtype)
    right = reference(case, bench.inputs(dtype, 1)[0], weight)
    found: dict[str, Candidate] = {}
    for name, backend in backends.items():
        facts = {"pattern": str(pattern), "backend": name, "compressed_bytes": size}
        if (refusal := refused(backend, problem)) is not None:
            told.append(facts | {"refused": refusal})
            continue
        try:
            packed = backend.pack(weight, problem)
            for settings in _settings(backend, bench.inputs(dtype, 1)[0], packed, problem):
                one = replace(problem, **({"settings": settings} if settings else {}))
                with torch.inference_mode():
                    error = relative(_run(backend, bench.inputs(dtype, 1)[0], packed, one), right)
                more = facts | {"settings": dict(settings), "error": error}
                if not error <= TOLERANCE[dtype]:
                    told.append(more | {"refused": f"wrong: relative error {error:.3g}"})
                    continue
                found[f"{name} {pattern} {settings}"] = _candidate(bench, backend, packed, one, more)
        except torch.OutOfMemoryError:
            raise
        except Exception as reason:  # a backend of anyone's: its failure is a fact about it
            told.append(facts | {"refused": f"failed: {first_line(reason)}"})
    return found


def stored_bytes(shape: tuple[int, ...], pattern: NMPattern, dtype: torch.dtype) -> int:
    """Bytes of a weight as nmbench.kernels.nmtensor stores it, axis "input", without storing it."""
    groups = torch.Size(shape).numel() // shape[1] * -(-shape[1] // pattern.m)
    return groups * pattern.n * dtype.itemsize + -(-groups * pattern.n * pattern.index_bits // 8)


def _candidate(
    bench: Bench, backend: Backend, packed: Mapping[str, Tensor], problem: Problem, facts: dict[str, Any]
) -> Candidate:
    held = sum(part.nbytes for part in packed.values())
    count = bench.copies(held, problem.dtype)
    parts = [packed, *({key: part.clone() for key, part in packed.items()} for _ in range(count - 1))]
    inputs = bench.inputs(problem.dtype, count)
    calls = [partial(_run, backend, x, part, problem) for x, part in zip(inputs, parts, strict=True)]
    return Candidate(list(calls), facts | {"bytes": held, "copies": count})


def _settings(backend: Backend, x: Tensor, packed: Mapping[str, Tensor], problem: Problem) -> Sequence[Any]:
    """The backend's own tunings that are worth timing; just its default where it has none."""
    variants = getattr(backend, "variants", None)
    with torch.inference_mode():
        found: Sequence[Any] = [()] if variants is None else variants(x, packed, None, problem)
    return found


def _run(backend: Backend, x: Tensor, packed: Mapping[str, Tensor], problem: Problem) -> Tensor:
    product = backend.linear if problem.kind == "linear" else backend.conv2d
    return product(x, packed, None, problem)


def first_line(error: BaseException) -> str:
    """Type and first line of a message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
