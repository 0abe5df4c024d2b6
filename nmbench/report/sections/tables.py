"""The tables of a setting: what a pattern costs in quality, and what it gains.

    quality    primary metric, paired difference to the dense twin, verdict
    others     the metrics besides the primary one
cost is in cost_table, what the seeds can show in seed_tables.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.verdict import Verdict
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, number, percent, signed, text
from nmbench.records.schema import Record

__all__ = ["NAMES", "names", "others", "quality"]

#: the columns that name a row; `names` has their cells
NAMES = (Column("pattern", "Pattern"), Column("method", "Method"))


def names(row: Row) -> tuple[Cell, Cell]:
    """Pattern and method of a row, as cells."""
    return Cell(row.pattern_text), Cell(row.method_text)


def quality(rows: Sequence[Row]) -> Table:
    """The rows of one setting: mean of the primary metric with the standard deviation over seeds, and the verdict."""
    metric, decimals = rows[0].metric, _decimals(rows)
    columns = (
        *NAMES,
        Column("seeds", "Seeds", "r"),
        Column("density", "Density", "r"),
        Column("value", f"{metric.name or 'metric'} {_arrow(metric.higher_is_better)}", "r", metric.unit),
        Column("difference", "Difference [95 %]", "r"),
        Column("verdict", "Verdict"),
    )
    body = tuple(
        (*names(row), _seeds(row), _density(row), _mean(row, decimals), _gap(row, decimals), _verdict(row))
        for row in rows
    )
    notes = tuple(
        f"{text(row.pattern_text)} {text(row.method_text)}: {text(note)}." for row in rows for note in row.notes
    )
    return Table("quality", "Quality", columns, body, notes, keys=2)


def others(rows: Sequence[Row], records: Sequence[Record]) -> Table | None:
    """The rows of one setting: mean of every metric but the primary one over the seeds; None where there is none."""
    shown: dict[str, Column] = {}
    for info in (info for row in rows for index in row.records for info in records[index].get("metric_info") or ()):
        name = str(info["name"])
        if name != rows[0].metric.name and name not in shown:
            arrow = _arrow(info.get("higher_is_better", True))
            shown[name] = Column(name, f"{name} {arrow}", "r", str(info.get("unit") or ""))
    good = [row for row in rows if row.seeds]
    if not shown or not good:
        return None
    body = tuple((*names(row), *(_other(row, name) for name in shown)) for row in good)
    return Table("other-metrics", "Other metrics", (*NAMES, *shown.values()), body, keys=2)


def _gap(row: Row, decimals: int) -> Cell:
    """The paired difference to the dense twin with its interval."""
    found = row.comparison
    if found is None or found.n == 0:
        return Cell("-")
    shown = signed(found.difference, decimals)
    if found.interval is None:
        return Cell(shown, found.difference)
    low, high = found.interval
    whole = f"{shown}{NBSP}[{signed(low, decimals)},{NBSP}{signed(high, decimals)}]"
    return Cell(whole, found.difference, parts=(("low", low), ("high", high)))


def _other(row: Row, name: str) -> Cell:
    value = row.means.get(f"metric.{name}", math.nan)
    return Cell(f"{value:.4g}", value) if math.isfinite(value) else Cell("-")


def _seeds(row: Row) -> Cell:
    good = len(row.seeds)
    shown = str(good) if good == row.cells else f"{good} of {row.cells}"
    return Cell(shown, good, parts=(("cells", row.cells),))


def _density(row: Row) -> Cell:
    density = row.means.get("density", math.nan)
    if row.is_dense and row.seeds:
        density = 1.0
    return Cell("-") if math.isnan(density) else Cell(percent(density), density)


def _mean(row: Row, decimals: int) -> Cell:
    values = [value for value in row.values if math.isfinite(value)]
    if not values:
        return Cell("-")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Cell(number(mean, decimals), mean)
    sd = statistics.stdev(values)
    return Cell(f"{number(mean, decimals)}{NBSP}±{NBSP}{number(sd, decimals)}", mean, parts=(("sd", sd),))


def _verdict(row: Row) -> Cell:
    decided = row.verdict not in (None, Verdict.UNDECIDED)
    return Cell(row.words.replace("1 seed", f"1{NBSP}seed"), strong=decided)


def _arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def _decimals(rows: Sequence[Row]) -> int:
    """Decimals for the metric's column: about four digits of its largest value."""
    largest = max((abs(value) for row in rows for value in row.values if math.isfinite(value)), default=0.0)
    return 2 if largest >= 10 else 3 if largest >= 1 else 4
