"""What happened in which layer: mask flips of every layer over training, and the layers that were left dense.

figure       block of a setting: flips per weight in all, and over the steps as a strip a method on one colour scale
left_dense   block of a task: candidate layers that no mask was put on
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from nmbench.analysis.rows import Row
from nmbench.analysis.series import LayerFlips, layer_flips
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Fold, Prose
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, percent, plural, si
from nmbench.report.style import Style, drawn, few, few_labels, plain_numbers, shorten, styles

__all__ = ["figure", "left_dense"]

_TITLE = "Mask flips by layer"
_MOST_LINES = 3
_MOST_STRIPS = 3
_MOST_LAYERS = 40
_MOST_NAMES = 6
#: these two are what the claims are about: their strips come first
_FIRST = ("sr-ste", "ste")
_MAP = "viridis_r"
_LOG = 30.0  # times the smallest total, from where on a log scale is needed
_WEIGHTS = "Weights are those of the layers named, with their share of all candidate weights of the model."


@dataclass(frozen=True)
class _Line:
    """One pattern: the rows whose masks moved, in order; `strips` are those that are drawn over time."""

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


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block | Fold]:
    """One line a pattern: dots for the totals by layer, then the strips."""
    rows, too_many = few_labels(rows)
    lines, left_out = few(_patterns(study, rows), _MOST_LINES, "patterns")
    if not lines:
        yield Prose(f"{_TITLE}: no figure. No record of a cell that ended well holds mask flips by layer.")
        return
    columns = 1 + max(len(line.strips) for line in lines)
    heights = [max(1.1, 0.145 * line.count) + 0.75 for line in lines]
    whole = Figure(figsize=(3.2 + 2.1 * columns, sum(heights)))
    axes = whole.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
    norm, look = _norm(lines), styles(rows)
    for line, places in zip(lines, axes, strict=True):
        _dots(places[0], line, look)
        for place, row in zip(places[1:], line.strips, strict=False):
            _strip(place, line.moving[row], line.count, norm, shorten(row.label, 30))
        for spare in places[1 + len(line.strips) :]:
            spare.remove()
    if columns > 1:
        bar = whole.colorbar(ScalarMappable(norm, _MAP), ax=list(axes[0]), extend="min", aspect=12)
        bar.minorticks_off()
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        bar.set_label("flips per weight per step", fontsize=7)
    caption = _caption(lines, columns > 1) + left_out + too_many
    shown = drawn(study, rows, "layers", _TITLE, caption, whole, [places[0] for places in axes])
    yield Fold(_TITLE, (shown,))


def _patterns(study: Study, rows: Sequence[Row]) -> list[_Line]:
    """Each pattern with the dense twin that watched it; most rows with flips first."""
    found: dict[str, dict[Row, LayerFlips]] = {}
    for row in rows:
        pattern = row.shadow if row.is_dense else row.pattern_text
        if pattern and row.means.get("sad_total") and (flips := layer_flips(row, study.loaded.records)):
            found.setdefault(pattern, {})[row] = flips
    lines = []
    for pattern, moving in found.items():
        names = next(iter(moving.values())).names
        same = {row: flips for row, flips in moving.items() if flips.names == names}
        if not all(row.is_dense for row in same):
            lines.append(_Line(pattern, same))
    return sorted(lines, key=lambda line: -len(line.moving))


def _norm(lines: Sequence[_Line]) -> LogNorm:
    seen = [line.moving[row].rate for line in lines for row in line.strips]
    positive = np.concatenate([rate[rate > 0] for rate in seen]) if seen else np.array([])
    if not len(positive):
        return LogNorm(1e-6, 1)
    # the last flips of a layer are single ones; they would take half of the scale
    return LogNorm(float(np.quantile(positive, 0.02)), max(float(positive.max()), 1.01 * float(positive.min())))


def _dots(axis: Axes, line: _Line, look: Mapping[str, Style]) -> None:
    place = np.arange(line.count)
    totals = np.concatenate([flips.total[: line.count] for flips in line.moving.values()])
    log = totals.max() > _LOG * totals[totals > 0].min()
    for row, flips in line.moving.items():
        style, total = look[row.label], flips.total[: line.count]
        shown = np.where(total > 0, total, np.nan) if log else total
        axis.plot(shown, place, markersize=4, linestyle=style.line, linewidth=0.6, label=row.label, **style.look)
    if log:
        axis.set_xscale("log")
        plain_numbers(axis, "x")
    else:
        axis.set_xlim(0, 1.06 * float(totals.max()))
    layers = zip(line.first.names[: line.count], line.first.sizes, strict=False)
    names = [f"{shorten(layer.removesuffix('.weight'), 44)} ({si(size)})" for layer, size in layers]
    axis.set_yticks(place, names, fontsize=7)
    axis.set_ylim(line.count - 0.5, -0.5)
    axis.set_xlabel(f"flips per weight, all steps{' (log)' if log else ''}")
    axis.set_title(shorten(line.title, 34))


def _strip(axis: Axes, flips: LayerFlips, count: int, norm: LogNorm, title: str) -> None:
    rate = np.ma.masked_less_equal(flips.rate[:count], 0)
    axis.grid(visible=False)
    # as pixels: thousands of outlines would make the SVG heavy, and show seams
    axis.pcolormesh(flips.edges, np.arange(count + 1) - 0.5, rate, norm=norm, cmap=_MAP, rasterized=True)
    axis.set_ylim(count - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xticks([0, flips.edges[-1]], ["0", f"{flips.edges[-1]:g}"])
    axis.set_xlabel("optimizer step")
    axis.set_title(title)


def _caption(lines: Sequence[_Line], strips: bool) -> str:
    seeds = sorted({flips.seeds for line in lines for flips in line.moving.values()})
    over = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    caption = (
        f"Mask flips per weight of each layer (its weights in brackets), mean over {over}. Left: the sum over all "
        "steps. Dense: a shadow mask of that pattern, only watched."
    )
    if strips:
        caption += " Right: flips per weight and step over training, on one colour scale; white is a stretch without."
    if any(len(line.moving) > len(line.strips) > 0 for line in lines):
        caption += f" At most {_MOST_STRIPS} methods have a strip."
    if most := max((len(line.first.names) for line in lines if line.count < len(line.first.names)), default=0):
        caption += f" Drawn are the first {_MOST_LAYERS} of {most} layers."
    return caption


# -- layers left dense ----------------------------------------------------------------------------------------------
def left_dense(study: Study, rows: Sequence[Row]) -> Iterator[Block | Fold]:
    """Per model, the candidate layers that no mask was put on, by reason, with their share of the candidate weights."""
    totals: dict[str, int] = {}
    patterns: dict[str, set[str]] = {}
    groups: dict[tuple[str, str], _Dense] = {}
    for record in (record for row in rows for record in study.records_of(row)):
        audit, model = record.audit, record.cell.model
        if audit is None or not audit.pattern:
            continue
        totals[model] = max(totals.get(model, 0), sum(math.prod(layer.shape or [0]) for layer in audit.layers))
        patterns.setdefault(model, set()).add(audit.pattern)
        for layer in (layer for layer in audit.layers if layer.role == "dense"):
            group = groups.setdefault((model, layer.reason or "no reason recorded"), _Dense())
            group.layers[layer.name] = math.prod(layer.shape or [0])
            group.patterns.add(audit.pattern)
    body = tuple(
        (
            Cell(model),
            Cell("all" if group.patterns == patterns[model] else ", ".join(sorted(group.patterns))),
            Cell(why),
            # every name in CSV, some on a page
            Cell(_names(list(group.layers)), ", ".join(group.layers)),
            _share(sum(group.layers.values()), totals[model]),
        )
        for (model, why), group in sorted(groups.items())
    )
    columns = (
        Column("model", "Model"),
        Column("patterns", "Patterns"),
        Column("why", "Why"),
        Column("layers", "Layers"),
        Column("weights", "Weights", "r"),
    )
    if body:
        yield Fold("Layers left dense", (Table("layers-left-dense", "Layers left dense", columns, body, (_WEIGHTS,)),))
    else:
        yield Prose("No candidate layer was left dense, or no record of a sparse cell that ended well says so.")


@dataclass
class _Dense:
    """Layers of one model that were left dense for one reason: name -> weights, and under which patterns."""

    layers: dict[str, int] = field(default_factory=dict)
    patterns: set[str] = field(default_factory=set)


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _share(weights: int, total: int) -> Cell:
    if not total:
        return Cell(str(weights), weights)
    share = weights / total
    return Cell(f"{si(weights)}{NBSP}({percent(share)})", weights, parts=(("share", share),))
