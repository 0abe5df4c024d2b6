"""The figure of quality against density: one line and marker a method, the dense twin as a horizontal band."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from nmbench.analysis.rows import Row, density_of
from nmbench.contract.spec import Metric
from nmbench.document.words import plural
from nmbench.report.layout import MOST_PANELS, label_y, panels, save
from nmbench.report.panels import Drawn, Style, few, few_labels, row_label, setting_title
from nmbench.report.scale import edge, spread

__all__ = ["axis_label", "finite", "quality", "seeds_in_words"]

_SLOT = 0.36  # octaves between patterns of one density
_METHODS = 0.26  # octaves over which the methods of one pattern are spread


def quality(rows: Sequence[Row], look: Mapping[str, Style], path: Path) -> Drawn:
    """One panel a setting. x: density in powers of two; y: the primary metric with its unit."""
    title = "Quality against density"
    groups: list[tuple[str, list[Row]]] = []
    rows, too_many = few_labels(rows)
    for setting in dict.fromkeys(row.setting for row in rows):
        shown = [row for row in rows if row.setting == setting and finite(row)]
        if any(row.pattern != "dense" and math.isfinite(density_of(row.pattern)) for row in shown):
            groups.append((setting_title(setting, rows), shown))
    if not groups:
        return Drawn(None, title, "No sparse cell ended well, so there is no quality to draw against density.")
    groups, left_out = few(groups, MOST_PANELS, "settings")
    figure, axes = panels([name for name, _ in groups], shared=False, bottom=0.62)
    outside = False
    for axis, (_, shown) in zip(axes, groups, strict=True):
        outside |= _panel(axis, shown, look)
    metric = groups[0][1][0].metric
    label_y(axes, axis_label(metric))
    save(figure, axes, path)
    caption = (
        f"{metric.name} against the density of the sparse layers (log scale): "
        f"{seeds_in_words([row for _, shown in groups for row in shown])}, bars and the dense band one standard "
        "deviation (none for one seed). Patterns of one density stand side by side, and so do methods at one pattern."
    )
    caption += " A value far from all others is a marker at the edge, with its number." if outside else ""
    return Drawn(path.name, title, caption + left_out + too_many)


def axis_label(metric: Metric) -> str:
    """The metric with its unit, and which way is better."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.name}{unit}, {'higher' if metric.higher_is_better else 'lower'} is better"


def seeds_in_words(rows: Sequence[Row]) -> str:
    """ "one seed", "mean over 3 seeds", or "mean over 1 to 6 seeds" where the rows differ."""
    counts = sorted({len(finite(row)) for row in rows} - {0}) or [0]
    if counts == [1]:
        return "one seed"
    return f"mean over {plural(counts[0], 'seed') if len(counts) == 1 else f'{counts[0]} to {counts[-1]} seeds'}"


def finite(row: Row) -> list[float]:
    """The row's values that are numbers."""
    return [value for value in row.values if math.isfinite(value)]


def _panel(axis: Axes, rows: list[Row], look: Mapping[str, Style]) -> bool:
    """Draw one setting; whether a value lies beyond the edge."""
    sparse = [row for row in rows if row.pattern != "dense" and math.isfinite(density_of(row.pattern))]
    dense = next((row for row in rows if row.pattern == "dense"), None)
    centre = _spread(dense)[0] if dense else statistics.median(_spread(row)[0] for row in sparse)
    limits = spread([_spread(row)[0] for row in sparse], centre)
    axis.set_ylim(*limits)
    if dense:
        mean, sd = _spread(dense)
        axis.axhline(mean, color=look["dense"].colour, linestyle=look["dense"].line, label="dense")
        axis.axhspan(mean - sd, mean + sd, color="black", alpha=0.12, linewidth=0)
    places = _places(sparse)
    names = list(dict.fromkeys(row_label(row) for row in sparse))
    outside = False
    for name in names:
        style = look[name]
        points = sorted((places[row], *_spread(row)) for row in sparse if row_label(row) == name)
        drawn = [edge(mean, limits) for _, mean, _ in points]
        axis.errorbar(
            [place for place, _, _ in points],
            [y for y, _ in drawn],
            yerr=[
                math.nan if beyond else sd or math.nan for (_, _, sd), (_, beyond) in zip(points, drawn, strict=True)
            ],
            color=style.colour,
            marker=style.marker,
            markerfacecolor=style.face,
            linestyle=style.line,
            markersize=5,
            capsize=2.5,
            label=name,
            clip_on=False,
        )
        for (place, mean, _), (y, beyond) in zip(points, drawn, strict=True):
            if beyond:
                outside = True
                text = f"{'↑' if beyond > 0 else '↓'} {mean:.4g}"
                axis.annotate(text, (place, y), (6, -3 if beyond > 0 else 3), textcoords="offset points", fontsize=7)
    _density_axis(axis, sparse)
    return outside


def _slots(rows: Sequence[Row]) -> dict[str, float]:
    """Where each pattern stands on the axis, in octaves: at its density, moved up where it would meet another."""
    patterns = sorted(dict.fromkeys(row.pattern for row in rows), key=density_of)  # stable: else as the rows stand
    densities = [math.log2(density_of(pattern)) for pattern in patterns]
    slots: dict[str, float] = {}
    last = -math.inf
    for pattern, density in zip(patterns, densities, strict=True):
        # those of one density stand around it
        last = max(density - _SLOT * (densities.count(density) - 1) / 2, last + _SLOT)
        slots[pattern] = last
    return slots


def _places(rows: Sequence[Row]) -> dict[Row, float]:
    """Where each row stands: at its pattern, beside the other methods there."""
    slots, placed = _slots(rows), {}
    for pattern, slot in slots.items():
        here = [row for row in rows if row.pattern == pattern]
        step = min(0.06, _METHODS / max(1, len(here) - 1))
        for place, row in enumerate(here):
            placed[row] = slot + step * (place - (len(here) - 1) / 2)
    return placed


def _density_axis(axis: Axes, rows: Sequence[Row]) -> None:
    slots = _slots(rows)
    axis.set_xlim(min(slots.values()) - 0.5, max(slots.values()) + 0.5)
    labels = [f"{name}\n{100 * density_of(name):.3g} %" for name in slots]
    axis.set_xticks(list(slots.values()), labels, fontsize=8 if len(slots) < 7 else 6.5)
    axis.set_xlabel("pattern and density (log scale)")


def _spread(row: Row) -> tuple[float, float]:
    values = finite(row)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
