"""The candidates of one case: every dense way, and every backend with every pattern, each on rotated buffers.

Each is checked against the product in higher precision first: a wrong one is never timed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nmbench._util.errors import first_line
from nmbench.kernels.backend import Backend, Kind, Problem, Refusal, refused
from nmbench.kernels.bench import dense
from nmbench.kernels.bench.operands import TOLERANCE, Source, reference, relative
from nmbench.kernels.bench.options import DTYPES, Options
from nmbench.kernels.bench.schema import Dense, Sparse, Told
from nmbench.kernels.bench.suites import Case
from nmbench.kernels.nmtensor import lengths
from nmbench.kernels.timing import affordable, copies
from nmbench.sparsity import NMPattern

#: of one operand: three times an L2 cache of 50 MB are 512 buffers of 0.3 MB
_MOST_COPIES = 512
#: operations a second of one core, about
_CPU_RATE = 5e10
Facts = TypeVar("Facts", Dense, Sparse)


@dataclass
class Candidate(Generic[Facts]):
    """One way to do the product. calls: one a buffer set. facts: what the record says of it besides its time."""

    calls: list[Callable[[], object]]
    facts: Facts


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
        first, *rest = shape = self.case.problem.input
        if self.case.problem.kind == "linear":
            shape = (max(first, least_rows), *rest)
        made = self._inputs.setdefault((dtype, shape[0]), [])
        while len(made) < count:
            made.append(self.source.draw(shape, dtype))
        return made[:count]

    def copies(self, weight_bytes: int, dtype: torch.dtype) -> int:
        """Copies of weight and input that together exceed the cache; one where nothing is timed."""
        if self.options.check_only or self.options.hot:
            return 1
        input_bytes = torch.Size(self.case.problem.input).numel() * dtype.itemsize
        most = _MOST_COPIES
        if self.device.type == "cpu":
            most = affordable(self.case.flops / _CPU_RATE, self.options.cell_s, most)
        return copies(weight_bytes + input_bytes, self.device, most)

    def problem(self, pattern: NMPattern) -> Problem:
        """What the backends are asked."""
        return replace(self.case.problem.on(self.device, DTYPES[self.dtype]), pattern=pattern)


def dense_ways(bench: Bench, refusals: list[Dense]) -> dict[str, Candidate[Dense]]:
    """Name -> every way that works."""
    problem, ways = bench.case.problem, dict[str, Candidate[Dense]]()
    compiled = bench.options.compiled and bench.device.type == "cuda" and not bench.options.check_only
    if compiled:
        torch._dynamo.reset()  # a function is recompiled only so often, and every case has a new shape
    for way in dense.variants(problem, DTYPES[bench.dtype], compiled):
        count = bench.copies(way.dtype.itemsize * torch.Size(problem.weight).numel(), way.dtype)
        try:
            inputs = [way.lay(x) for x in bench.inputs(way.dtype, count, way.least_rows)]
            weights = [bench.source.draw(problem.weight, way.dtype) for _ in range(count)]
            right = reference(problem, inputs[0], weights[0])
            with torch.inference_mode():
                operands = [way.prepare(weight) for weight in weights]
                error = relative(way.run(inputs[0], operands[0]), right)
        except torch.OutOfMemoryError:
            raise
        except Exception as reason:  # torch's way to say that it has no such product here
            refusals.append({"way": way.name, "refused": first_line(reason)})
            continue
        if (wrong := _wrong(error, way.dtype)) is not None:
            refusals.append({"way": way.name, "error": error, **_refusal(wrong)})
            continue
        calls = [partial(way.run, x, operand) for x, operand in zip(inputs, operands, strict=True)]
        ways[way.name] = Candidate(list(calls), {"way": way.name, "error": error, "copies": count})
    if not ways and not refusals:
        refusals.append({"way": "-", "refused": f"torch has no dense {problem.kind} of {bench.dtype}"})
    return ways


def sparse_ways(
    bench: Bench, pattern: NMPattern, backends: Mapping[str, Backend], refusals: list[Sparse]
) -> dict[str, Candidate[Sparse]]:
    """The same of the backends, with their own tunings, for one pattern."""
    dtype, problem = DTYPES[bench.dtype], bench.problem(pattern)
    weight, x = bench.source.sparse(problem), bench.inputs(dtype, 1)[0]
    right = reference(problem, x, weight)
    candidates: dict[str, Candidate[Sparse]] = {}
    for name, backend in backends.items():
        facts: Sparse = {"pattern": str(pattern), "backend": name, "compressed_bytes": stored_bytes(problem)}
        if (refusal := refused(backend, problem)) is not None:
            refusals.append({**facts, **_refusal(refusal)})
            continue
        try:
            packed = backend.pack(weight, problem)
            with torch.inference_mode():
                offered = backend.variants(x, packed, None, problem)
            for settings in offered:
                tuned = replace(problem, settings=settings)
                with torch.inference_mode():
                    error = relative(backend.run(x, packed, None, tuned), right)
                about: Sparse = {**facts, "settings": dict(settings), "error": error}
                if (wrong := _wrong(error, dtype)) is not None:
                    refusals.append({**about, **_refusal(wrong)})
                    continue
                candidates[f"{name} {pattern} {settings}"] = _candidate(bench, backend, packed, tuned, about)
        except torch.OutOfMemoryError:
            raise
        except Exception as reason:  # a backend of anyone's: its failure is a fact about it
            refusals.append({**facts, **_refusal(Refusal(f"failed: {first_line(reason)}", Kind.FAULT))})
    return candidates


def stored_bytes(problem: Problem) -> int:
    """Bytes of a weight as nmbench.kernels.nmtensor stores it, axis "input", without storing it."""
    entries, positions = lengths(problem.weight, problem.pattern)
    return entries * problem.dtype.itemsize + positions


def _wrong(error: float, dtype: torch.dtype) -> Refusal | None:
    return None if error <= TOLERANCE[dtype] else Refusal(f"wrong: relative error {error:.3g}", Kind.FAULT)


def _refusal(refusal: Refusal) -> Told:
    return {"refused": str(refusal), "kind": refusal.kind.name.lower()}


def _candidate(
    bench: Bench, backend: Backend, packed: Mapping[str, Tensor], problem: Problem, facts: Sparse
) -> Candidate[Sparse]:
    held = sum(part.nbytes for part in packed.values())
    count = bench.copies(held, problem.dtype)
    parts = [packed, *({key: part.clone() for key, part in packed.items()} for _ in range(count - 1))]
    inputs = bench.inputs(problem.dtype, count)
    calls = [partial(backend.run, x, part, None, problem) for x, part in zip(inputs, parts, strict=True)]
    return Candidate(list(calls), {**facts, "bytes": held, "copies": count})
