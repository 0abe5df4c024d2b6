"""Figures out of a record's cells. Every one is computed from measured times; what was not measured is None.

summary    geometric means of the ratios, by pattern, dtype and number of rows
targets    the speeds that the sparse path is meant to reach, with what was measured
best       pattern -> the fastest backend of a cell
refusals   what did not run, and why, counted
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["BANDS", "best", "geometric_mean", "refusals", "summary", "targets"]

Cell = Mapping[str, Any]

#: rows of the matrix product: what is bound by bytes, what is between, what is bound by arithmetic
BANDS = ((1, 16), (17, 255), (256, 4095), (4096, None))
_LARGE = 4096


def geometric_mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def best(cell: Cell) -> dict[str, dict[str, Any]]:
    """Pattern -> the fastest candidate that was timed."""
    found: dict[str, dict[str, Any]] = {}
    for one in sorted((one for one in cell["sparse"] if "us" in one), key=lambda one: float(one["us"])):
        found.setdefault(one["pattern"], one)
    return found


def summary(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row a (dtype, kind, pattern, band of rows): how many, geometric mean, least and most of the ratios.

    `ratio` is dense over the fastest backend's time, dense not being a choice; `chosen` the same with dense as one.
    """
    groups: dict[tuple[str, str, str, tuple[int, int | None]], dict[str, list[float]]] = {}
    for cell in cells:
        band = next(band for band in BANDS if _within(cell["case"]["rows"], band))
        chosen = {row["pattern"]: row["ratio"] for row in cell["chosen"]}
        for pattern, one in best(cell).items():
            if "ratio" in one:
                key = (cell["dtype"], cell["case"]["kind"], pattern, band)
                group = groups.setdefault(key, {"ratio": [], "chosen": []})
                group["ratio"].append(one["ratio"])
                group["chosen"].append(chosen[pattern])
    return [
        {"dtype": dtype, "kind": kind, "pattern": pattern, "rows": list(band), "cases": len(group["ratio"])}
        | {"ratio": geometric_mean(group["ratio"]), "least": min(group["ratio"]), "most": max(group["ratio"])}
        | {"chosen": geometric_mean(group["chosen"])}
        for (dtype, kind, pattern, band), group in sorted(groups.items(), key=lambda item: _order(item[0]))
    ]


def _order(key: tuple[str, str, str, tuple[int, int | None]]) -> tuple[str, str, str, int]:
    return (*key[:3], key[3][0])


def _within(rows: int, band: tuple[int, int | None]) -> bool:
    return band[0] <= rows and (band[1] is None or rows <= band[1])


def targets(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """{"target", "wanted", "figure", "least", "cases", "met"}; figure and met are None where no case was measured."""
    large = [cell for cell in cells if cell["case"]["kind"] == "linear" and min(cell["case"]["weight"]) >= _LARGE]
    many = [cell for cell in large if cell["dtype"] == "bf16" and cell["case"]["rows"] >= _LARGE]
    few = [cell for cell in large if cell["case"]["rows"] <= 16]
    speed = [one["ratio"] for cell in many if "ratio" in (one := best(cell).get("2:4", {}))]
    bound = [one["share_bound"] for cell in few for one in best(cell).values() if "share_bound" in one]
    kept = [row["ratio"] for cell in cells for row in cell["chosen"]]
    return [
        _target("2:4, bf16, linear, at least 4096 rows, inputs and outputs: geometric mean over the best dense time",
                1.5, geometric_mean(speed), speed),
        _target("any pattern, 1 to 16 rows, at least 4096 inputs and outputs: least share of what its compressed bytes "
                "and an empty kernel take", 0.75, min(bound, default=None), bound),
        _target("the whole grid with dense as a choice: least ratio, measured again after the choice",
                0.97, min(kept, default=None), kept),
    ]  # fmt: skip


def _target(text: str, wanted: float, figure: float | None, values: Sequence[float]) -> dict[str, Any]:
    return {
        "target": text,
        "wanted": wanted,
        "figure": figure,
        "least": min(values, default=None),
        "cases": len(values),
        "met": None if figure is None else figure >= wanted,
    }


def failed(record: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """The refusals that are faults: wrong numbers, or an error while packing or multiplying."""
    return [
        one for one in refusals(record["cells"]) if one[2].startswith(("wrong: ", "failed: ", "its refusal() raised"))
    ]


def refusals(cells: Iterable[Cell]) -> list[tuple[str, str, str, int]]:
    """(backend, dtype, reason, cases and patterns), the most frequent first."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for cell in cells:
        for one in cell["sparse"]:
            if "refused" in one:
                counted[one["backend"], cell["dtype"], one["refused"]] += 1
        if "error" in cell:
            counted["(all)", cell["dtype"], cell["error"]] += 1
    return [(*key, count) for key, count in counted.most_common()]
