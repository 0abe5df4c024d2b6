"""The figure of quality against density: one line and marker a method, the dense twin as a horizontal band."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from nmbench.report.compare import Row, density_of
from nmbench.report.panels import Drawn, Style, panels, row_label, save, setting_title

__all__ = ["quality"]


def quality(rows: Sequence[Row], look: Mapping[str, Style], path: Path) -> Drawn:
    """One panel a setting. x: density in powers of two; y: the primary metric with its unit."""
    title = "Quality against density"
    groups: list[tuple[str, list[Row]]] = []
    for setting in dict.fromkeys(row.setting for row in rows):
        shown = [row for row in rows if row.setting == setting and _finite(row)]
        if any(row.pattern != "dense" and math.isfinite(density_of(row.pattern)) for row in shown):
            groups.append((setting_title(setting, rows), shown))
    if not groups:
        return Drawn(None, title, "No sparse cell ended well, so there is no quality to draw against density.")
    figure, axes = panels([name for name, _ in groups], shared=False)
    for axis, (_, shown) in zip(axes, groups, strict=True):
        _quality_panel(axis, shown, look)
    metric = groups[0][1][0].metric
    unit = f" ({metric.unit})" if metric.unit else ""
    axes[0].set_ylabel(f"{metric.name}{unit}, {'higher' if metric.higher_is_better else 'lower'} is better")
    save(figure, axes, path)
    caption = (
        f"{metric.name} against density: mean over seeds, bars and band one standard deviation (none for one seed). "
        "Methods at the same density stand side by side."
    )
    return Drawn(path.name, title, caption)


def _quality_panel(axis: Axes, rows: list[Row], look: Mapping[str, Style]) -> None:
    names = list(dict.fromkeys(row_label(row) for row in rows if row.pattern != "dense"))
    for dense in (row for row in rows if row.pattern == "dense"):
        mean, sd = _spread(dense)
        axis.axhline(mean, color=look["dense"].colour, linestyle=look["dense"].line, linewidth=1.2, label="dense")
        axis.axhspan(mean - sd, mean + sd, color="black", alpha=0.08, linewidth=0)
    ticks: dict[float, list[str]] = {}
    for place, name in enumerate(names):
        dodge = 2.0 ** (0.07 * (place - (len(names) - 1) / 2))
        points = [(density_of(row.pattern), *_spread(row), row.pattern) for row in rows if row_label(row) == name]
        points = sorted(point for point in points if math.isfinite(point[0]))
        for density, _, _, pattern in points:
            ticks.setdefault(density, []).append(pattern)
        style = look[name]
        axis.errorbar(
            [density * dodge for density, *_ in points],
            [mean for _, mean, *_ in points],
            yerr=[sd or math.nan for _, _, sd, _ in points],
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            linewidth=1.2,
            markersize=5,
            capsize=2.5,
            label=name,
        )
    _density_axis(axis, ticks)


def _density_axis(axis: Axes, ticks: Mapping[float, list[str]]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xlim(min(ticks) / 1.5, max(ticks) * 1.5)
    names = [f"{100 * density:.4g} %\n{', '.join(dict.fromkeys(ticks[density]))}" for density in ticks]
    axis.set_xticks(list(ticks), names)
    axis.minorticks_off()
    axis.set_xlabel("density of the sparse layers (log scale)")


def _finite(row: Row) -> list[float]:
    return [value for value in row.values if math.isfinite(value)]


def _spread(row: Row) -> tuple[float, float]:
    values = _finite(row)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
