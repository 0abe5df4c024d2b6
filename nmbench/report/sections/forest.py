"""The forest plot: paired differences to the dense twin with their 95 % intervals, against the task's margin.

forest     the figure of one task
VERDICTS   colour and marker of each verdict, in every figure that shows one
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.verdict import Verdict
from nmbench.document.words import plural
from nmbench.report.layout import grid, save
from nmbench.report.layout import name as title_of
from nmbench.report.panels import Drawn, few, setting_title, shorten
from nmbench.report.scale import edge, spread

__all__ = ["VERDICTS", "forest"]

#: verdict -> colour, marker, filled? The shape says it where the colour cannot
VERDICTS = {
    Verdict.BETTER: ("#0072B2", "^", True),
    Verdict.NOT_WORSE: ("#009E73", "o", True),
    Verdict.WORSE: ("#D55E00", "v", True),
    Verdict.PERHAPS_WORSE: ("#D55E00", "v", False),
    Verdict.UNDECIDED: ("#555555", "D", False),
}
_ONE_SEED = ("#555555", "x", True)
_MOST_LINES = 30
_MOST_SETTINGS = 3
_LINE = 0.19  # inches


def forest(rows: Sequence[Row], path: Path) -> Drawn:
    """One panel a setting, one line a (pattern, method). x: sparse - dense, in the metric's unit."""
    title = "Differences to the dense twin"
    groups: list[tuple[str, list[Row]]] = []
    for setting in dict.fromkeys(row.setting for row in rows):
        shown = [row for row in rows if row.setting == setting and row.comparison is not None and row.comparison.n]
        if shown:
            groups.append((setting_title(setting, rows), shown))
    if not groups:
        return Drawn(None, title, "No sparse cell has a dense twin that ended well, so there is no difference to draw.")
    groups, left_out = few(groups, _MOST_SETTINGS, "settings")
    cut = [(name, *few(shown, _MOST_LINES, f"rows{f' of {name}' if name else ''}")) for name, shown in groups]
    left_out += "".join(words for _, _, words in cut)
    names = [shorten(row.name, 40) for _, shown, _ in cut for row in shown]
    left = 0.25 + 0.075 * max(map(len, names))
    figure, lines = grid(
        [_LINE * (len(shown) + 0.4) for _, shown, _ in cut],
        1,
        5.2 + left,
        left=left,
        top=0.3 if len(cut) > 1 else 0.12,
        bottom=0.52,
    )
    axes = [line[0] for line in lines]
    outside = False
    for axis, (name, shown, _) in zip(axes, cut, strict=True):
        title_of(axis, name)
        outside |= _panel(axis, shown)
    _legend(axes[0], [row for _, shown, _ in cut for row in shown])
    save(figure, axes, path)
    caption = (
        f"Sparse minus dense, paired by seed ({_pairs(cut)}): mean difference and its 95 % t interval over seeds (none "
        "for one seed; an arrow where it leaves the drawing). The line is no difference, the dashed line and the grey "
        "zone the margin that the task declares; a verdict is read off the interval."
    )
    caption += " A mean far from all others stands at the edge, with its number." if outside else ""
    return Drawn(path.name, title, caption + left_out)


def _panel(axis: Axes, rows: Sequence[Row]) -> bool:
    """Draw one setting; whether a mean lies beyond the edge."""
    metric = rows[0].metric
    found = [row.comparison for row in rows if row.comparison is not None]
    worse = -metric.margin if metric.higher_is_better else metric.margin
    limits = _limits(found, worse)
    axis.set_xlim(*limits)
    axis.axvline(0, color="black", linewidth=1.0)
    if worse:
        axis.axvspan(min(0.0, worse), max(0.0, worse), color="black", alpha=0.1, linewidth=0)
        axis.axvline(worse, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
    outside = _lines(axis, found, limits)
    for place in range(1, len(rows)):
        if rows[place].pattern != rows[place - 1].pattern:
            axis.axhline(0.5 - place, color="black", alpha=0.25, linewidth=0.6)
    axis.set_ylim(0.3 - len(rows), 0.7)
    axis.set_yticks([-place for place in range(len(rows))], [shorten(row.name, 40) for row in rows], fontsize=8)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
    unit = f" ({metric.unit})" if metric.unit else ""
    better = "right" if metric.higher_is_better else "left"
    axis.set_xlabel(f"difference in {metric.name}{unit}, {better} is better")
    return outside


def _limits(found: Sequence[Comparison], worse: float) -> tuple[float, float]:
    """All means but wild ones, the margin, and of the intervals as much as does not shrink the means to a point."""
    low, high = spread([*(one.difference for one in found), worse * 1.3, -worse * 0.5], 0.0)
    reach = high - low
    inside = [one for one in found if low <= one.difference <= high and one.interval is not None]
    ends = [end for one in inside for end in one.interval or ()]
    least, most = min([low, *ends]), max([high, *ends])
    pad = 0.03 * reach
    return max(least - pad, low - 0.6 * reach), min(most + pad, high + 0.6 * reach)


def _look(one: Comparison) -> tuple[str, str, bool]:
    return VERDICTS[one.verdict] if one.n > 1 else _ONE_SEED


def _lines(axis: Axes, found: Sequence[Comparison], limits: tuple[float, float]) -> bool:
    """Draw all of them, those that look alike at once; whether a mean lies beyond the edge."""
    alike: dict[tuple[str, str, bool], list[tuple[int, Comparison]]] = {}
    for place, one in enumerate(found):
        alike.setdefault(_look(one), []).append((-place, one))
    for (colour, marker, filled), group in alike.items():
        _intervals(axis, group, colour, limits)
        x, y = [edge(one.difference, limits)[0] for _, one in group], [y for y, _ in group]
        axis.plot(x, y, marker, color=colour, mfc=colour if filled else "white", markersize=6, clip_on=False, zorder=3)
    wild = [(place, one.difference) for place, one in enumerate(found) if edge(one.difference, limits)[1]]
    for place, value in wild:
        x_, beyond = edge(value, limits)
        text = f"{'← ' if beyond < 0 else ''}{value:+.4g}{' →' if beyond > 0 else ''}"
        side = "left" if beyond < 0 else "right"
        axis.annotate(
            text, (x_, -place), (-7 * beyond, 0), textcoords="offset points", fontsize=7, ha=side, va="center"
        )
    return bool(wild)


def _intervals(axis: Axes, group: Sequence[tuple[int, Comparison]], colour: str, limits: tuple[float, float]) -> None:
    """Lines with a bar at each end, or an arrow where the end is beyond the edge."""
    known = [(y, one.interval) for y, one in group if one.interval is not None and not edge(one.difference, limits)[1]]
    if not known:
        return
    ends = [(y, edge(low, limits), edge(high, limits)) for y, (low, high) in known]
    axis.hlines(
        [y for y, _, _ in ends], [low for _, (low, _), _ in ends], [high for *_, (high, _) in ends], colour, lw=1.6
    )
    both = [(y, x, cut) for y, low, high in ends for x, cut in (low, high)]
    for cut, marker in ((0, "|"), (-1, "<"), (1, ">")):
        x, y = [x for _, x, side in both if side == cut], [y for y, _, side in both if side == cut]
        if x:
            axis.plot(x, y, marker, color=colour, markersize=5 if cut else 6, clip_on=False)


def _legend(axis: Axes, rows: Sequence[Row]) -> None:
    """One entry for each verdict that is there."""
    found = {(row.comparison.n > 1, row.comparison.verdict) for row in rows if row.comparison is not None}
    for several in (True, False):
        for name in VERDICTS:
            if (several, name) in found:
                colour, marker, filled = VERDICTS[name] if several else _ONE_SEED
                line = Line2D([], [], linestyle="", marker=marker, color=colour, label=name if several else "one seed")
                line.set_markerfacecolor(colour if filled else "white")
                axis.add_line(line)


def _pairs(cut: Sequence[tuple[str, list[Row], str]]) -> str:
    counts = sorted({row.comparison.n for _, shown, _ in cut for row in shown if row.comparison is not None})
    return plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
