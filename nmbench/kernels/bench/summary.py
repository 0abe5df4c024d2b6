"""Figures out of a record's cells. Every one is computed from measured times; what was not measured is None."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from nmbench.kernels.backend import Kind
from nmbench.kernels.bench.schema import Cell, Mean, Sparse, Target

#: rows of the matrix product: what is bound by bytes, what is between, what is bound by arithmetic
BANDS = ((1, 16), (17, 255), (256, 4095), (4096, None))
_LARGE = 4096


def geometric_mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return statistics.geometric_mean(values) if values else None


def best(cell: Cell) -> dict[str, Sparse]:
    """Pattern -> the fastest candidate that was timed."""
    fastest: dict[str, Sparse] = {}
    for row in sorted((row for row in cell["sparse"] if "us" in row), key=lambda row: row["us"]):
        fastest.setdefault(row["pattern"], row)
    return fastest


def summary(cells: Sequence[Cell]) -> list[Mean]:
    """One row a (dtype, kind, pattern, band of rows): how many, geometric mean, least and most of the ratios.

    `ratio` is dense over the fastest backend's time, dense not being a choice; `chosen` the same with dense as one.
    """
    groups: dict[tuple[str, str, str, int], list[tuple[float, float]]] = {}
    for cell in cells:
        band = next(i for i, (first, last) in enumerate(BANDS) if first <= cell["case"]["rows"] <= (last or math.inf))
        chosen = {row["pattern"]: row["ratio"] for row in cell["chosen"]}
        for pattern, row in best(cell).items():
            if "ratio" in row:
                key = (cell["dtype"], cell["case"]["kind"], pattern, band)
                groups.setdefault(key, []).append((row["ratio"], chosen[pattern]))
    rows: list[Mean] = []
    for (dtype, kind, pattern, band), pairs in sorted(groups.items()):
        ratios, choices = zip(*pairs, strict=True)
        ratio, choice = map(statistics.geometric_mean, (ratios, choices))
        mean = Mean(dtype=dtype, kind=kind, pattern=pattern, rows=list(BANDS[band]), cases=len(pairs),
                    ratio=ratio, least=min(ratios), most=max(ratios), chosen=choice)  # fmt: skip
        rows.append(mean)
    return rows


def targets(cells: Sequence[Cell]) -> list[Target]:
    """What the GPU kernels are to reach, and what they do."""
    large = [cell for cell in cells if cell["case"]["kind"] == "linear" and min(cell["case"]["weight"]) >= _LARGE]
    many = [cell for cell in large if cell["dtype"] == "bf16" and cell["case"]["rows"] >= _LARGE]
    few = [cell for cell in large if cell["case"]["rows"] <= 16]
    speed = [row["ratio"] for cell in many if (row := best(cell).get("2:4")) and "ratio" in row]
    bound = [row["share_bound"] for cell in few for row in best(cell).values() if "share_bound" in row]
    kept = [row["ratio"] for cell in cells for row in cell["chosen"]]
    return [
        _target("2:4, bf16, linear, at least 4096 rows, inputs and outputs: geometric mean over the best dense time",
                1.5, geometric_mean(speed), speed),
        _target("any pattern, 1 to 16 rows, at least 4096 inputs and outputs: least share of what its compressed bytes "
                "and an empty kernel take", 0.75, min(bound, default=None), bound),
        _target("the whole grid with dense as a choice: least ratio, measured again after the choice",
                0.97, min(kept, default=None), kept),
    ]  # fmt: skip


def _target(text: str, wanted: float, figure: float | None, values: Sequence[float]) -> Target:
    met = None if figure is None else figure >= wanted
    least = min(values, default=None)
    return {"target": text, "wanted": wanted, "figure": figure, "least": least, "cases": len(values), "met": met}


def failed(cells: Iterable[Cell]) -> list[tuple[str, str, str, int]]:
    """The refusals that are faults: wrong numbers, or an error while packing or multiplying."""
    fault = Kind.FAULT.name.lower()
    return refusals({**cell, "sparse": [row for row in cell["sparse"] if row.get("kind") == fault]} for cell in cells)


def refusals(cells: Iterable[Cell]) -> list[tuple[str, str, str, int]]:
    """(backend, dtype, reason, cases and patterns), the most frequent first."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for cell in cells:
        counted.update((row["backend"], cell["dtype"], row["refused"]) for row in cell["sparse"] if "refused" in row)
        if "error" in cell:
            counted["(all)", cell["dtype"], cell["error"]] += 1
    return [(*key, count) for key, count in counted.most_common()]
