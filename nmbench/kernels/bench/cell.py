"""One case and dtype: all candidates measured side by side in the same rounds.

What was the fastest for a pattern is measured once more beside the best dense way, in rounds of its own: picking the
smallest of several noisy times flatters the pick, and this second figure is free of that.
"""

from collections.abc import Mapping
from typing import Any

import torch

from nmbench.kernels.backend import Backend
from nmbench.kernels.bench.candidates import Bench, Candidate, dense_ways, sparse_ways
from nmbench.kernels.bench.options import DTYPES, Options
from nmbench.kernels.bench.roofline import Roofline
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
) -> dict[str, Any]:
    """All timings of one case, and a reason for each that there is not.

    Raises nothing that a candidate or the device's memory causes: it becomes a reason.
    """
    cell: dict[str, Any] = {"case": _described(case), "dtype": dtype, "dense": [], "sparse": [], "chosen": []}
    try:
        _fill(cell, Bench(case, dtype, device, options), backends, roofline)
    except torch.OutOfMemoryError:
        cell["error"] = "out of memory"
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return cell


def _described(case: Case) -> dict[str, Any]:
    p = case.problem
    shapes = {"kind": p.kind, "shape": case.shape, "weight": list(p.weight), "input": list(p.input), "rows": p.rows}
    return {"suite": case.suite, **shapes, "calls": case.calls, "layer": case.layer, "flops": case.flops}


def _fill(cell: dict[str, Any], bench: Bench, backends: Mapping[str, Backend], roofline: Roofline | None) -> None:
    ways = dense_ways(bench, cell["dense"])
    sparse: dict[str, Candidate] = {}
    for pattern in bench.options.patterns:
        sparse |= sparse_ways(bench, pattern, backends, cell["sparse"])
    timed: dict[str, Timing] = {}
    if not bench.options.check_only:
        calls = {name: candidate.calls for name, candidate in (ways | sparse).items()}
        timed = compare(calls, bench.device, budget_s=bench.options.cell_s)
    for key, candidates in (("dense", ways), ("sparse", sparse)):
        cell[key] += [candidate.facts | _times(timed.get(name)) for name, candidate in candidates.items()]
    measured = [row for row in cell["sparse"] if "us" in row]
    if timed and ways:
        best = min(ways, key=lambda name: timed[name].us)
        cell["dense_us"] = timed[best].us
        for row in measured:
            row["ratio"] = timed[best].us / row["us"]
        cell["chosen"] = _chosen(bench, ways | sparse, timed, best)
    if roofline is not None:
        for row in measured:
            row |= _shares(row, bench, roofline)


def _times(timing: Timing | None) -> dict[str, Any]:
    if timing is None:
        return {}
    us = {key: round(getattr(timing, key), 4) for key in ("us", "low", "high")}
    return {**us, "calls": timing.calls, "how": timing.how}


def _shares(row: dict[str, Any], bench: Bench, roofline: Roofline) -> dict[str, float | None]:
    """A time against what moving the bytes and doing the dense operations takes at the measured rates."""
    p, dtype, held = bench.case.problem, DTYPES[bench.dtype], row["compressed_bytes"]
    activations = torch.Size(p.input).numel() * dtype.itemsize + p.rows * p.weight[0] * result_dtype(dtype).itemsize
    flops_us = roofline.flops_us(bench.case.flops, bench.dtype)
    return {
        "share_bytes": roofline.bytes_us(held + activations) / row["us"],
        "share_flops": None if flops_us is None else flops_us / row["us"],
        "share_bound": roofline.bound_us(held) / row["us"],
    }


def _chosen(
    bench: Bench, candidates: Mapping[str, Candidate], timed: Mapping[str, Timing], best: str
) -> list[dict[str, Any]]:
    """The pick for each pattern. Dense keeps its place unless a candidate is clearly faster; then both run again."""
    picks: dict[str, str] = {}
    for name in sorted(candidates, key=lambda name: timed[name].us):
        pattern = candidates[name].facts.get("pattern")
        if pattern is not None and timed[best].us >= WIN * timed[name].us:
            picks.setdefault(pattern, name)
    again: dict[str, Timing] = {}
    if picks:
        calls = {name: candidates[name].calls for name in (best, *picks.values())}
        again = compare(calls, bench.device, budget_s=bench.options.cell_s)
    rows: list[dict[str, Any]] = []
    for pattern in map(str, bench.options.patterns):
        row: dict[str, Any] = {"pattern": pattern, "backend": "dense", "ratio": 1.0, "measured_again": False}
        if (pick := picks.get(pattern)) is not None:
            row |= {"backend": candidates[pick].facts["backend"], "measured_again": True}
            row["ratio"] = again[best].us / again[pick].us
        rows.append(row)
    return rows
