"""One case and dtype: all candidates measured side by side in the same rounds.

measure    -> a cell of the record, as nmbench.kernels.bench.record describes it
WIN        from which gain on a candidate is chosen over dense

What was the fastest for a pattern is measured once more beside the best dense way, in rounds of its own: picking the
smallest of several noisy times flatters the pick, and this second figure is free of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nmbench.kernels.backend import Backend
from nmbench.kernels.bench.candidates import Bench, Candidate, dense_ways, sparse_ways
from nmbench.kernels.bench.options import DTYPES, Options
from nmbench.kernels.bench.roofline import Roofline
from nmbench.kernels.bench.suites import Case
from nmbench.kernels.timing import Timing, compare
from nmbench.sparsity import NMPattern

__all__ = ["WIN", "measure"]

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
    told: dict[str, Any] = {"case": _described(case), "dtype": dtype, "dense": [], "sparse": [], "chosen": []}
    try:
        _fill(told, Bench(case, dtype, device, options), backends, roofline)
    except torch.OutOfMemoryError:
        told["error"] = "out of memory"
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return told


def _described(case: Case) -> dict[str, Any]:
    told: dict[str, Any] = {"suite": case.suite, "kind": case.kind, "shape": case.shape, "weight": list(case.weight)}
    told |= {"input": list(case.input), "rows": case.rows, "calls": case.calls, "layer": case.layer}
    return told | {"flops": case.flops}


def _fill(told: dict[str, Any], bench: Bench, backends: Mapping[str, Backend], roofline: Roofline | None) -> None:
    ways = dense_ways(bench, told["dense"])
    sparse: dict[str, Candidate] = {}
    for text in bench.options.patterns:
        sparse |= sparse_ways(bench, NMPattern.parse(text), backends, told["sparse"])
    timed: dict[str, Timing] = {}
    if not bench.options.check_only:
        calls = {name: one.calls for name, one in (ways | sparse).items()}
        timed = compare(calls, bench.device, budget_s=bench.options.cell_s)
    told["dense"] += [one.facts | _times(timed.get(name)) for name, one in ways.items()]
    told["sparse"] += [one.facts | _times(timed.get(name)) for name, one in sparse.items()]
    if timed and ways:
        best = min(ways, key=lambda name: timed[name].us)
        told["dense_us"] = timed[best].us
        for one in told["sparse"]:
            if "us" in one:
                one["ratio"] = timed[best].us / one["us"]
        told["chosen"] = _chosen(bench, ways | sparse, timed, best)
    if roofline is not None:
        _shares(told, bench, roofline)


def _times(timing: Timing | None) -> dict[str, Any]:
    if timing is None:
        return {}
    told: dict[str, Any] = {key: round(getattr(timing, key), 4) for key in ("us", "low", "high")}
    return told | {"calls": timing.calls, "how": timing.how}


def _shares(told: dict[str, Any], bench: Bench, roofline: Roofline) -> None:
    """Each time against what moving the bytes and doing the dense operations takes at the measured rates."""
    case, dtype = bench.case, DTYPES[bench.dtype]
    out_size = {torch.int8: 4, torch.float8_e4m3fn: 2}.get(dtype, dtype.itemsize)
    activations = torch.Size(case.input).numel() * dtype.itemsize + case.rows * case.weight[0] * out_size
    flops_us = roofline.flops_us(case.flops, bench.dtype)
    for one in told["sparse"]:
        if "us" in one:
            one["share_bytes"] = roofline.bytes_us(one["compressed_bytes"] + activations) / one["us"]
            one["share_flops"] = None if flops_us is None else flops_us / one["us"]
            one["share_bound"] = roofline.bound_us(one["compressed_bytes"]) / one["us"]


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
    for pattern in (str(NMPattern.parse(text)) for text in bench.options.patterns):
        row: dict[str, Any] = {"pattern": pattern, "backend": "dense", "ratio": 1.0, "measured_again": False}
        if (pick := picks.get(pattern)) is not None:
            row |= {"backend": candidates[pick].facts["backend"], "measured_again": True}
            row["ratio"] = again[best].us / again[pick].us
        rows.append(row)
    return rows
