"""SAD by layer: flips per weight of every layer in all, and over the steps as a strip a method on one colour scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.series import LayerFlips, layer_flips
from nmbench.document.words import plural, si
from nmbench.records.schema import Record
from nmbench.report.layout import grid, inches, name, save
from nmbench.report.panels import Drawn, Style, few, few_labels, setting_title, shorten

__all__ = ["layers"]

_MOST_LINES = 3
_MOST_STRIPS = 3
_MOST_LAYERS = 40
#: these two are what the claims are about: their strips come first
_FIRST = ("sr-ste", "ste")
_MAP = "viridis_r"
_LOG = 30.0  # times the smallest total, from where on a log scale is needed


@dataclass(frozen=True)
class _Line:
    """One (setting, pattern): the rows whose masks moved, in order; `strips` are those that are drawn over time."""

    title: str
    moving: dict[Row, LayerFlips]

    @property
    def strips(self) -> list[Row]:
        timed = [row for row, flips in self.moving.items() if len(flips.edges)]
        order = {row: (row.label not in _FIRST, not row.is_dense, row.hyper != "{}") for row in timed}
        return sorted(timed, key=order.__getitem__)[:_MOST_STRIPS]

    @property
    def first(self) -> LayerFlips:
        return next(iter(self.moving.values()))

    @property
    def count(self) -> int:
        return min(_MOST_LAYERS, len(self.first.names))


def layers(rows: Sequence[Row], records: Sequence[Record], look: Mapping[str, Style], path: Path) -> Drawn:
    """One line a (setting, pattern): dots for the totals by layer, then the strips."""
    title = "Mask flips by layer"
    rows, too_many = few_labels(rows)
    groups, left_out = few(_groups(rows), _MOST_LINES, "settings and patterns")
    lines = [one for one in (_line(group, rows, records) for group in groups) if one.moving]
    if not lines:
        return Drawn(None, title, "No record of a cell that ended well holds mask flips by layer.")
    columns = 1 + max(len(line.strips) for line in lines)
    heights = [max(1.1, 0.145 * line.count) for line in lines]
    left = 0.2 + 0.058 * max(len(label) for line in lines for label in _labels(line))
    right = 0.8 if columns > 1 else 0.15
    figure, axes = grid(
        heights, columns, left + (2.2 * columns if columns > 1 else 3.4) + right, left=left, right=right, gap=0.12
    )
    norm = _norm(lines)
    for line, places in zip(lines, axes, strict=True):
        _dots(places[0], line, look)
        for place, row in zip(places[1:], line.strips, strict=False):
            _strip(place, line.moving[row], line.count, norm, shorten(row.label, 30))
        for spare in places[1 + len(line.strips) :]:
            spare.remove()
    if columns > 1:
        _scale(figure, axes[0][-1] if len(lines[0].strips) == columns - 1 else axes[0][0], norm)
    save(figure, [places[0] for places in axes], path)
    return Drawn(path.name, title, _caption(lines, columns > 1) + left_out + too_many)


def _groups(rows: Sequence[Row]) -> list[tuple[Setting, str, list[Row]]]:
    """Rows by setting and pattern, with the dense twin that watched the pattern; most rows with flips first."""
    found: dict[tuple[Setting, str], list[Row]] = {}
    for row in rows:
        pattern = row.shadow if row.is_dense else row.pattern_text
        if pattern and row.means.get("sad_total"):
            found.setdefault((row.setting, pattern), []).append(row)
    sparse = [(*key, group) for key, group in found.items() if any(not row.is_dense for row in group)]
    return sorted(sparse, key=lambda one: -len(one[2]))


def _line(group: tuple[Setting, str, list[Row]], rows: Sequence[Row], records: Sequence[Record]) -> _Line:
    setting, pattern, shown = group
    flips = {row: found for row in shown if (found := layer_flips(row, records)) is not None}
    first = next(iter(flips.values()), None)
    same = {row: one for row, one in flips.items() if first is not None and one.names == first.names}
    return _Line(", ".join(filter(None, [setting_title(setting, rows), pattern])), same)


def _norm(lines: Sequence[_Line]) -> LogNorm:
    seen = [line.moving[row].rate for line in lines for row in line.strips]
    positive = np.concatenate([rate[rate > 0] for rate in seen]) if seen else np.array([])
    if not len(positive):
        return LogNorm(1e-6, 1)
    # the last flips of a layer are single ones; they would take half of the scale
    return LogNorm(float(np.quantile(positive, 0.02)), max(float(positive.max()), 1.01 * float(positive.min())))


def _labels(line: _Line) -> list[str]:
    layers = zip(line.first.names[: line.count], line.first.sizes, strict=False)
    return [f"{shorten(layer.removesuffix('.weight'), 44)} ({si(size)})" for layer, size in layers]


def _dots(axis: Axes, line: _Line, look: Mapping[str, Style]) -> None:
    place = np.arange(line.count)
    totals = np.concatenate([flips.total[: line.count] for flips in line.moving.values()])
    log = totals.max() > _LOG * totals[totals > 0].min()
    for row, flips in line.moving.items():
        style, total = look[row.label], flips.total[: line.count]
        axis.plot(
            np.where(total > 0, total, np.nan) if log else total,
            place,
            color=style.colour,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=4,
            linestyle=style.line,
            linewidth=0.6,
            label=row.label,
        )
    if log:
        axis.set_xscale("log", subs=[])
    else:
        axis.set_xlim(0, 1.06 * float(totals.max()))
    axis.set_yticks(place, _labels(line), fontsize=7)
    axis.set_ylim(line.count - 0.5, -0.5)
    axis.set_xlabel(f"flips per weight, all steps{' (log)' if log else ''}")
    name(axis, shorten(line.title, 34))


def _strip(axis: Axes, flips: LayerFlips, count: int, norm: LogNorm, title: str) -> None:
    rate = np.ma.masked_less_equal(flips.rate[:count], 0)
    axis.grid(visible=False)
    # as pixels: thousands of outlines would make the SVG heavy, and show seams
    axis.pcolormesh(flips.edges, np.arange(count + 1) - 0.5, rate, norm=norm, cmap=_MAP, rasterized=True)
    axis.set_ylim(count - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xticks([0, flips.edges[-1] / 2, flips.edges[-1]], ["0", "", f"{flips.edges[-1]:g}"])
    # or the numbers of neighbours would meet
    axis.get_xticklabels()[0].set_horizontalalignment("left")
    axis.get_xticklabels()[-1].set_horizontalalignment("right")
    axis.set_xlabel("optimizer step")
    name(axis, title)


def _scale(figure: Figure, beside: Axes, norm: LogNorm) -> None:
    box = beside.get_position()
    width = figure.get_figwidth()
    bar = figure.add_axes((1 - 0.66 / width, box.y0, 0.11 / width, box.height))
    figure.colorbar(ScalarMappable(norm, _MAP), cax=bar, extend="min")
    bar.minorticks_off()
    bar.set_title("per step", fontsize=8, y=1 + 0.06 / inches(bar))


def _caption(lines: Sequence[_Line], strips: bool) -> str:
    seeds = sorted({flips.seeds for line in lines for flips in line.moving.values()})
    over = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    said = (
        f"Mask flips per weight of each layer (its weights in brackets), mean over {over}. Left: the sum over all "
        "steps. Dense: a shadow mask of that pattern, only watched."
    )
    if strips:
        said += " Right: flips per weight and step over training, all on one colour scale; white is a stretch without."
    if any(len(line.moving) > len(line.strips) > 0 for line in lines):
        said += f" At most {_MOST_STRIPS} methods have a strip."
    if most := max((len(line.first.names) for line in lines if line.count < len(line.first.names)), default=0):
        said += f" Drawn are the first {_MOST_LAYERS} of {most} layers."
    return said
