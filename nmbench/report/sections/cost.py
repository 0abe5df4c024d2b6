"""What a setting's models cost: tables of `size` and training `effort`, and quality against cost as a figure.

size, effort, figure    blocks of a setting: what a model takes, what training it took, the difference against these
panel, Cost     one set of axes of such a figure, and what its x axis is
front           the rows that no other one beats on both axes
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Prose
from nmbench.document.table import Cell, Column, Table, filled
from nmbench.document.words import NBSP, binary, percent, si
from nmbench.report.sections.quality import NAMES, compared, names, seeds_in_words
from nmbench.report.style import Style, difference_axis, drawn, few, few_labels, panels, styles

__all__ = ["BYTES", "MACS", "TIME", "Cost", "effort", "figure", "front", "panel", "size"]

_TITLE = "Cost against quality"
_MOST_ROWS = 40
_NO_COST = "No cell of this setting ended well, so there is no cost to show."
_TIME_NOTE = (
    "Time is that of training, relative to the dense twin, and shown only where both ran alone on the machine, in one "
    "go and on the same hardware (`-` elsewhere)."
)
_MEMORY_NOTE = "Memory is the most that the process took until training ended: the GPU's where one was used."
_PASSES_NOTE = "A pass is the full schedule; a method with 2 passes trains twice as many steps as its dense twin."


def size(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Parameters, arithmetic and storage of one model of each row that ended well."""
    columns = (
        *NAMES,
        Column("nonzeros", "Parameters", "r"),
        Column("macs", "MACs", "r"),
        Column("bytes", "Bytes", "r"),
    )
    body = tuple(
        (
            *names(row),
            _shrunk(row, "parameters", "nonzeros", si, _share),
            _shrunk(row, "macs_dense", "macs_effective", si, _share),
            _shrunk(row, "bytes_dense", "bytes_compressed", binary, _times_smaller),
        )
        for row in rows
        if row.seeds
    )
    notes = ("With their share of the dense figure; after the bytes, how many times smaller.",)
    yield Table("cost", "Cost and gain", columns, body, notes, keys=2) if body else Prose(_NO_COST)


def effort(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Mask flips, passes, time and memory of training of each row that ended well."""
    good = [row for row in rows if row.seeds]
    if not good:
        return
    columns = (
        *NAMES,
        Column("sad", "Flips", "r"),
        Column("sad_per_weight", "Flips per weight", "r"),
        Column("passes", "Passes", "r"),
        Column("time", "Time", "r"),
        Column("memory", "Memory", "r"),
    )
    body = tuple(
        (
            *names(row),
            _mean(row, "sad_total", si),
            _mean(row, "sad_per_weight", lambda value: f"{value:.3g}"),
            _mean(row, "training_passes", lambda value: f"{value:g}×"),
            _time(row),
            _mean(row, "peak_gpu_bytes" if "peak_gpu_bytes" in row.means else "peak_rss_bytes", binary),
        )
        for row in good
    )
    table = filled(Table("training", "Training effort", columns, body, keys=2))
    yield replace(table, notes=tuple(_notes(good, table)))


def _notes(rows: Sequence[Row], table: Table) -> Iterator[str]:
    keys = {column.key for column in table.columns}
    if "time" in keys:
        yield _TIME_NOTE
    if "memory" in keys:
        yield _MEMORY_NOTE
    if any(row.means.get("training_passes", 1) > 1 for row in rows):
        yield _PASSES_NOTE
    if shadows := sorted({str(row.shadow) for row in rows if row.shadow}):
        yield f"The dense row's SAD is that of a shadow mask ({', '.join(shadows)}), which was only watched."


def _mean(row: Row, name: str, shown: Callable[[float], str]) -> Cell:
    value = row.means.get(name)
    return Cell("-") if value is None else Cell(shown(value), value)


def _shrunk(
    row: Row, dense: str, left: str, shown: Callable[[float], str], gain: Callable[[float, float], str]
) -> Cell:
    """What is left of it, and what that gains, after the dense figure; the dense one alone where nothing went."""
    before, after = row.means.get(dense), row.means.get(left)
    if before is None or after is None:
        return Cell("-")
    text = shown(before)
    if before and after and before != after:
        text += f"{NBSP}→ {shown(after)}{NBSP}({gain(before, after)})"
    return Cell(text, after, parts=(("dense", before),))


def _share(before: float, after: float) -> str:
    return percent(after / before, 2)


def _times_smaller(before: float, after: float) -> str:
    return f"{before / after:.2f}×"


def _time(row: Row) -> Cell:
    parts = (("s", row.means.get("train_s")),)
    if row.is_dense:
        return Cell("1×", 1.0, parts=parts)
    return Cell("-") if row.time_ratio is None else Cell(f"{row.time_ratio:.2f}×", row.time_ratio, parts=parts)


# -- the figure -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Cost:
    """One kind of cost: its name on an axis, and its value for a row (1 for the dense twin), None where not known."""

    name: str
    read: Callable[[Row], float | None]


def _relative(part: str, whole: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value, dense = row.means.get(part), row.means.get(whole)
        return value / dense if value is not None and dense else None

    return read


MACS = Cost("MACs, share of dense", _relative("macs_effective", "macs_dense"))
BYTES = Cost("bytes, share of dense", _relative("bytes_compressed", "bytes_dense"))
TIME = Cost("measured time of inference, share of dense", _relative("speed_converted_ms", "speed_dense_ms"))
_TRAINING = Cost("training time, times dense", lambda row: row.time_ratio)
_PASSES = Cost("training passes", lambda row: row.means.get("training_passes"))


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """x: training, MACs, bytes, each relative to the dense twin; y: the difference to it."""
    shown, left_out = few_labels(compared(rows))
    shown, more = few(shown, _MOST_ROWS, "rows")
    kinds = (_training(shown), MACS, BYTES)
    if not any(kind.read(row) for row in shown for kind in kinds):
        yield Prose(f"{_TITLE}: no figure. No sparse cell with a dense twin that ended well holds its cost.")
        return
    whole, axes = panels([""] * 3, height=2.7)
    for place, (axis, kind) in enumerate(zip(axes, kinds, strict=True)):
        panel(axis, shown, kind, styles(rows))
        axis.set_ylabel("" if place else axis.get_ylabel())
    caption = (
        f"Difference to the dense twin ({seeds_in_words(shown)}) with its 95 % interval, against cost: training (time "
        "from cells that ran alone, else passes over the schedule); multiply-accumulates of one example, only those "
        "with a non-zero weight; bytes of all parameters, sparse ones compressed. The star is the dense twin, the grey "
        "zone its margin; the grey steps join the rows that no other row beats on both axes. Up is better, left is "
        "cheaper; far beyond the margin the scale is logarithmic. Equal costs are drawn side by side."
    )
    yield drawn(study, rows, "cost", _TITLE, caption + left_out + more, whole, axes)


def _training(rows: Sequence[Row]) -> Cost:
    """Time where more than half of the rows have one that may be compared; else passes."""
    timed = sum(row.time_ratio is not None for row in rows) * 2 > len(rows)
    return _TRAINING if timed else _PASSES


def panel(axis: Axes, rows: Sequence[Row], kind: Cost, look: Mapping[str, Style]) -> None:
    """Draw the difference of each of the `rows`, all compared with their twins, against one cost; dense is a star."""
    axis.set_xlabel(kind.name)
    known = [(row, value) for row in rows if (value := kind.read(row)) is not None]
    difference_axis(axis, "y", rows, up=True)
    if not known:
        axis.text(0.5, 0.5, "not known", ha="center", va="center", transform=axis.transAxes)
        return
    costs = [cost for _, cost in known]
    gaps = [row.comparison.difference for row, _ in known if row.comparison]
    best = front([*zip(costs, gaps, strict=True), (1.0, 0.0)], rows[0].metric.higher_is_better)
    places = _side_by_side(costs)
    steps = [((*places, 1.0)[place], (*gaps, 0.0)[place]) for place in best]
    axis.plot(*zip(*steps, strict=True), color="#999999", linewidth=1.0, drawstyle="steps-post", zorder=1)
    axis.plot([1.0], [0.0], linestyle="", markersize=8, label="dense", **look["dense"].look)
    for name in dict.fromkeys(row.label for row, _ in known):
        own = [place for place, (row, _) in enumerate(known) if row.label == name]
        axis.errorbar(
            [places[place] for place in own],
            [gaps[place] for place in own],
            yerr=[[_half(known[place][0], end, gaps[place]) for place in own] for end in (0, 1)],
            linestyle="",
            capsize=2,
            elinewidth=0.9,
            label=name,
            **look[name].look,
        )
    axis.set_xlim(0, 1.08 * max(1.0, *costs))
    _patterns_on_top(axis, known)


def _half(row: Row, end: int, gap: float) -> float:
    """From the mean to one end of its interval; NaN, which is not drawn, where there is none."""
    interval = row.comparison.interval if row.comparison else None
    return math.nan if interval is None else abs(interval[end] - gap)


def front(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[int]:
    """Places of the points (cost, quality) that no other one beats: cheaper and as good, or better and as cheap."""
    turn = 1 if higher_is_better else -1
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -turn * points[place][1], place))
    best, kept = -math.inf, []
    for place in order:
        if turn * points[place][1] > best:
            best = turn * points[place][1]
            kept.append(place)
    return kept


def _patterns_on_top(axis: Axes, known: Sequence[tuple[Row, float]]) -> None:
    """Name the patterns above their costs, where each has a cost of its own; those that meet share a name."""
    costs: dict[str, list[float]] = {}
    for row, cost in known:
        costs.setdefault(row.pattern_text, []).append(cost)
    means = sorted((sum(own) / len(own), name) for name, own in costs.items())
    width = max((1.0, *(cost for _, cost in known))) - min(cost for _, cost in known) or 1.0
    if any(max(own) - min(own) > 0.05 * width for own in costs.values()) or means[0][0] == means[-1][0] == 1.0:
        return
    ticks: list[tuple[float, str]] = []
    for place, name in means:
        if ticks and place - ticks[-1][0] < 0.09 * width:
            ticks[-1] = (ticks[-1][0], f"{ticks[-1][1]}\n{name}")
        else:
            ticks.append((place, name))
    top = axis.secondary_xaxis("top")
    top.set_xticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=7.5)
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)


def _side_by_side(values: Sequence[float]) -> list[float]:
    """The values, equal ones moved apart by a little, so that their markers can all be seen."""
    width = max((1.0, *values)) - min((1.0, *values)) or 1.0
    alike: dict[float, list[int]] = {}
    for place, value in enumerate(values):
        alike.setdefault(round(value, 3), []).append(place)
    moved = list(values)
    for group in alike.values():
        step = min(0.015, 0.1 / len(group)) * width
        for turn, place in enumerate(group):
            moved[place] += step * (turn - (len(group) - 1) / 2)
    return moved
