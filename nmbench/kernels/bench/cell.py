"""One case and dtype: all candidates measured side by side in the same rounds.

What was the fastest for a pattern is measured once more beside the best dense way, in rounds of its own: picking the
smallest of several noisy times flatters the pick, and this second figure is free of that.
"""

from collections.abc import Mapping

import torch

from nmbench.kernels.backend import Backend
from nmbench.kernels.bench.candidates import Bench, Candidate, dense_ways, sparse_ways
from nmbench.kernels.bench.options import DTYPES, Options
from nmbench.kernels.bench.roofline import Roofline
from nmbench.kernels.bench.schema import Cell, Choice, Dense, Product, Sparse, Told
from nmbench.kernels.bench.suites import Case
from nmbench.kernels.problem import result_dtype
from nmbench.kernels.timing import Timing, compare

#: less is within timing noise
WIN = 1.02


def measure(
    case: Case,
    dtype: str,
    backends: Mapping[str, Backend],
    roofline: Roofline | None,
    device: torch.device,
    options: Options,
) -> Cell:
    """All timings of one case, and a reason for each that there is not.

    Raises nothing that a candidate or the device's memory causes: it becomes a reason.
    """
    cell: Cell = {"case": _described(case), "dtype": dtype, "dense": [], "sparse": [], "chosen": []}
    try:
        _fill(cell, Bench(case, dtype, device, options), backends, roofline)
    except torch.OutOfMemoryError:
        cell["error"] = "out of memory"
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return cell


def _described(case: Case) -> Product:
    p = case.problem
    return Product(suite=case.suite, kind=p.kind, shape=case.shape, weight=list(p.weight), input=list(p.input),
                   rows=p.rows, calls=case.calls, layer=case.layer, flops=case.flops)  # fmt: skip


def _fill(cell: Cell, bench: Bench, backends: Mapping[str, Backend], roofline: Roofline | None) -> None:
    ways = dense_ways(bench, cell["dense"])
    sparse: dict[str, Candidate[Sparse]] = {}
    for pattern in bench.options.patterns:
        sparse |= sparse_ways(bench, pattern, backends, cell["sparse"])
    timed: dict[str, Timing] = {}
    if not bench.options.check_only:
        calls = {name: way.calls for name, way in ways.items()} | {name: one.calls for name, one in sparse.items()}
        timed = compare(calls, bench.device, budget_s=bench.options.cell_s)
    cell["dense"] += [{**way.facts, **_times(timed.get(name))} for name, way in ways.items()]
    cell["sparse"] += [{**one.facts, **_times(timed.get(name))} for name, one in sparse.items()]
    measured = [row for row in cell["sparse"] if "us" in row]
    if timed and ways:
        best = min(ways, key=lambda name: timed[name].us)
        cell["dense_us"] = timed[best].us
        for row in measured:
            row["ratio"] = timed[best].us / row["us"]
        cell["chosen"] = _chosen(bench, best, ways[best], sparse, timed)
    if roofline is not None:
        for row in measured:
            _add_shares(row, bench, roofline)


def _times(timing: Timing | None) -> Told:
    if timing is None:
        return {}
    us, low, high = (round(time, 4) for time in (timing.us, timing.low, timing.high))
    return {"us": us, "low": low, "high": high, "calls": timing.calls, "how": timing.how}


def _add_shares(row: Sparse, bench: Bench, roofline: Roofline) -> None:
    """A time against what moving the bytes and doing the dense operations takes at the measured rates."""
    p, dtype, held = bench.case.problem, DTYPES[bench.dtype], row["compressed_bytes"]
    activations = torch.Size(p.input).numel() * dtype.itemsize + p.rows * p.weight[0] * result_dtype(dtype).itemsize
    flops_us = roofline.flops_us(bench.case.flops, bench.dtype)
    row["share_bytes"] = roofline.bytes_us(held + activations) / row["us"]
    row["share_flops"] = None if flops_us is None else flops_us / row["us"]
    row["share_bound"] = roofline.bound_us(held) / row["us"]


def _chosen(
    bench: Bench,
    best: str,
    dense: Candidate[Dense],
    sparse: Mapping[str, Candidate[Sparse]],
    timed: Mapping[str, Timing],
) -> list[Choice]:
    """The pick for each pattern. Dense keeps its place unless a candidate is clearly faster; then both run again."""
    picks: dict[str, str] = {}
    for name in sorted(sparse, key=lambda name: timed[name].us):
        if timed[best].us >= WIN * timed[name].us:
            picks.setdefault(sparse[name].facts["pattern"], name)
    again: dict[str, Timing] = {}
    if picks:
        calls = {best: dense.calls} | {name: sparse[name].calls for name in picks.values()}
        again = compare(calls, bench.device, budget_s=bench.options.cell_s)
    rows: list[Choice] = []
    for pattern in map(str, bench.options.patterns):
        if (pick := picks.get(pattern)) is None:
            rows.append({"pattern": pattern, "backend": "dense", "ratio": 1.0, "measured_again": False})
        else:
            backend, ratio = sparse[pick].facts["backend"], again[best].us / again[pick].us
            rows.append({"pattern": pattern, "backend": backend, "ratio": ratio, "measured_again": True})
    return rows
