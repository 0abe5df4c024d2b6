"""The first figure of a report: what every pattern and method costs in quality, against what it saves."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Picture
from nmbench.report.sections.quality import compared
from nmbench.report.style import MOST_PANELS, Style, difference_axis, few, few_labels, panels, save, styles


@dataclass(frozen=True)
class Cost:
    """One kind of cost: its name on an axis, and its value for a row (1 for the dense twin), None where not known."""

    name: str
    read: Callable[[Row], float | None]

    def known(self, rows: Sequence[Row]) -> int:
        """Of how many rows."""
        return sum(self.read(row) is not None for row in rows)


def _relative(part: str, whole: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value, dense = row.means.get(part), row.means.get(whole)
        return value / dense if value is not None and dense else None

    return read


_CAPTION = (
    "Up is better, left is cheaper. Difference to the dense twin (the star), mean over the seeds with its 95 % "
    "interval (none for one seed); in the grey zone a loss is within the margin that the task declares, and far "
    "beyond it the scale is logarithmic. The grey steps join the rows that no other row beats on both axes."
)
_TIMED = (
    "The same against the time of one forward pass at the largest batch that was timed, over the fastest dense "
    "engine's: right of 1 sparsity costs time. The table of measured speed says on what."
)
MACS = Cost("MACs, share of dense", _relative("macs_effective", "macs_dense"))
_TIME = Cost("measured time of inference, share of dense", _relative("speed_converted_ms", "speed_dense_ms"))
_DENSITY = Cost("density of the sparse layers", lambda row: row.means.get("density"))


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """What it saves: MACs, else density. One panel a setting, as a share of dense; y: difference to dense."""

    def cost(own: Sequence[Row]) -> Cost:
        return MACS if MACS.known(own) * 2 > len(own) else _DENSITY

    yield from _drawn(study, rows, cost, "overall-tradeoff.png", "Quality against what it saves")


def measured(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """The same against the measured time of inference, for the settings where it is known."""
    timed = {row.setting for row in rows if _TIME.read(row) is not None and row.comparison is not None}
    own = [row for row in rows if row.setting in timed]
    yield from _drawn(study, own, lambda _: _TIME, "overall-speed.png", "Quality against speed", _TIMED)


def _drawn(
    study: Study,
    rows: Sequence[Row],
    cost: Callable[[Sequence[Row]], Cost],
    name: str,
    title: str,
    caption: str = _CAPTION,
) -> Iterator[Block]:
    shown, too_many = few_labels(rows)
    own_rows = (compared(row for row in shown if row.setting == setting) for setting in study.settings)
    groups = [own for own in own_rows if own]
    if not groups:
        return
    groups, left_out = few(groups, MOST_PANELS, "settings")
    # two columns at most: the figure must be legible on a phone
    whole, axes = panels([study.titles[own[0].setting] for own in groups], 2, height=3.0 if len(groups) == 1 else 2.2)
    look = styles(rows)
    for axis, own in zip(axes, groups, strict=True):
        _panel(axis, own, cost(own), look)
    save(whole, axes, study.figures / name)
    yield Picture(name, title, "all tasks", caption + left_out + too_many)


def _panel(axis: Axes, rows: Sequence[Row], kind: Cost, look: Mapping[str, Style]) -> None:
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
    costs = grouped((row.pattern_text, cost) for row, cost in known)
    width = max(1.0, *(cost for _, cost in known)) - min(cost for _, cost in known) or 1.0
    if any(max(own) - min(own) > 0.05 * width for own in costs.values()) or {cost for _, cost in known} == {1.0}:
        return
    ticks = grouped((round(sum(own) / len(own) / width, 1), name) for name, own in costs.items())
    top = axis.secondary_xaxis("top")
    top.set_xticks([place * width for place in ticks], ["\n".join(names) for names in ticks.values()], fontsize=7.5)
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)


def _side_by_side(values: Sequence[float]) -> list[float]:
    """The values, equal ones moved apart by a little, so that their markers can all be seen."""
    width = max((1.0, *values)) - min((1.0, *values)) or 1.0
    alike = grouped((round(value, 3), place) for place, value in enumerate(values))
    moved = list(values)
    for group in alike.values():
        step = min(0.015, 0.1 / len(group)) * width
        for turn, place in enumerate(group):
            moved[place] += step * (turn - (len(group) - 1) / 2)
    return moved
