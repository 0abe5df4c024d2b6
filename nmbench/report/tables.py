"""The tables of a setting: what a pattern costs in quality, and what it gains.

    quality    primary metric, paired difference to the dense twin, verdict
    others     the metrics besides the primary one
    cost       MACs, bytes, SAD, training
All return markdown; the sentences under a table belong to it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from nmbench.record import Record
from nmbench.report.compare import Row
from nmbench.report.words import NBSP, binary, label, number, percent, si, signed, table, text

__all__ = ["cost", "others", "quality"]

_NO_TIME = (
    "Time is that of training, relative to the dense twin, and shown only where both ran alone on the machine, in one "
    "go and on the same hardware (`-` elsewhere). The factor after the bytes says how many times smaller."
)
_PASSES = "A pass is the full schedule; a method with 2 passes trains twice as many steps as its dense twin."


def quality(rows: Sequence[Row]) -> str:
    """The rows of one setting: mean of the primary metric with the standard deviation over seeds, and the verdict."""
    metric, decimals = rows[0].metric, _decimals(rows)
    unit = f" ({metric.unit})" if metric.unit else ""
    name = text(f"{metric.name or 'metric'}{unit}") + (" ↑" if metric.higher_is_better else " ↓")
    headers = ["Pattern", "Method", "Seeds", "Density", name, "Difference [95 %]", "Verdict"]
    body = [[*_names(row), _seeds(row), _density(row), *_values(row, decimals), _bold(row)] for row in rows]
    return "\n".join([table(headers, body, "llrrrrl"), *_notes(rows)])


def others(rows: Sequence[Row], records: Sequence[Record]) -> str:
    """The rows of one setting: mean of every metric but the primary one over the seeds, or "" where there is none."""
    shown: dict[str, str] = {}
    for info in (info for row in rows for index in row.records for info in records[index].get("metric_info") or ()):
        name, unit = str(info["name"]), info.get("unit") or ""
        arrow = "↑" if info.get("higher_is_better", True) else "↓"
        if name != rows[0].metric.name:
            shown.setdefault(name, f"{text(f'{name} ({unit})' if unit else name)} {arrow}")
    good = [row for row in rows if row.seeds]
    body = [[*_names(row), *(_other(row, name) for name in shown)] for row in good]
    return table(["Pattern", "Method", *shown.values()], body, "ll" + "r" * len(shown)) if shown and body else ""


def cost(rows: Sequence[Row]) -> str:
    """The rows of one setting that ended well: arithmetic and storage of one model, mask flips and training effort."""
    good = [row for row in rows if row.seeds]
    headers = ["Pattern", "Method", "MACs", "Bytes", "SAD", "SAD per weight", "Passes", "Time"]
    body = [[*_names(row), _macs(row), _bytes(row), *_sad(row), _passes(row), _time(row)] for row in good]
    if not body:
        return "No cell of this setting ended well, so there is no cost to show."
    notes = [_NO_TIME] + ([_PASSES] if any(row.means.get("training_passes", 1) > 1 for row in good) else [])
    if shadows := sorted({row.shadow for row in good if row.shadow}):
        notes.append(f"The dense row's SAD is that of a shadow mask ({', '.join(shadows)}), which was only watched.")
    return "\n".join([table(headers, body, "llrrrrrr"), "", " ".join(notes)])


def _other(row: Row, name: str) -> str:
    value = row.means.get(f"metric.{name}", math.nan)
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _names(row: Row) -> tuple[str, str]:
    return text(row.pattern), text(label(row.method, row.hyper))


def _values(row: Row, decimals: int) -> tuple[str, str]:
    return _mean(row, decimals), _gap(row, decimals)


def _seeds(row: Row) -> str:
    return str(row.cells) if len(row.seeds) == row.cells else f"{len(row.seeds)} of {row.cells}"


def _density(row: Row) -> str:
    if row.pattern == "dense":
        return percent(1.0) if row.seeds else "-"
    density = row.means.get("density", math.nan)
    return "-" if math.isnan(density) else percent(density)


def _mean(row: Row, decimals: int) -> str:
    values = [value for value in row.values if math.isfinite(value)]
    if not values:
        return "-"
    mean = number(statistics.fmean(values), decimals)
    return f"{mean}{NBSP}±{NBSP}{number(statistics.stdev(values), decimals)}" if len(values) > 1 else mean


def _gap(row: Row, decimals: int) -> str:
    comparison = row.comparison
    if comparison is None or comparison.n == 0:
        return "-"
    gap = signed(comparison.difference, decimals)
    if comparison.interval is None:
        return gap
    low, high = (signed(end, decimals) for end in comparison.interval)
    return f"{gap}{NBSP}[{low},{NBSP}{high}]"


def _bold(row: Row) -> str:
    verdict = row.verdict.replace("1 seed", f"1{NBSP}seed")
    return f"**{verdict}**" if verdict in ("better", "not worse", "worse") else verdict


def _decimals(rows: Sequence[Row]) -> int:
    """Decimals for the metric's column: about four digits of its largest value."""
    largest = max((abs(value) for row in rows for value in row.values if math.isfinite(value)), default=0.0)
    return 2 if largest >= 10 else 3 if largest >= 1 else 4


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = [f"- {' '.join(_names(row))}: {text(note)}." for row in rows for note in row.notes]
    return ["", *notes] if notes else []


def _macs(row: Row) -> str:
    dense, effective = row.means.get("macs_dense"), row.means.get("macs_effective")
    if dense is None or effective is None:
        return "-"
    return (
        si(dense)
        if dense == effective
        else f"{si(dense)}{NBSP}→ {si(effective)}{NBSP}({percent(effective / dense, 2)})"
    )


def _bytes(row: Row) -> str:
    dense, compressed = row.means.get("bytes_dense"), row.means.get("bytes_compressed")
    if dense is None or compressed is None:
        return "-"
    if dense == compressed or not compressed:
        return binary(dense)
    return f"{binary(dense)}{NBSP}→ {binary(compressed)}{NBSP}({dense / compressed:.2f}×)"


def _sad(row: Row) -> tuple[str, str]:
    total, per_weight = row.means.get("sad_total"), row.means.get("sad_per_weight")
    return "-" if total is None else si(total), "-" if per_weight is None else f"{per_weight:.3g}"


def _passes(row: Row) -> str:
    passes = row.means.get("training_passes")
    return "-" if passes is None else f"{passes:g}×"


def _time(row: Row) -> str:
    if row.pattern == "dense":
        return "1×"
    return "-" if row.time_ratio is None else f"{row.time_ratio:.2f}×"
