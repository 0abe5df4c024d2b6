"""What happened in which layer: mask flips of every layer over training, and the layers that were left dense."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmbench.analysis.rows import Row
from nmbench.analysis.series import LayerFlips, layer_flips
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Fold, Prose
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, percent, si, some
from nmbench.report.sections.quality import counted
from nmbench.report.style import Style, drawn, few, few_labels, plain_numbers, shorten, styles

_TITLE = "Mask flips by layer"
_MOST_PATTERNS = 3
_MOST_LAYERS = 40
_MOST_NAMES = 6
_LOG = 30.0  # times the smallest total, from where on a log scale is needed
_WEIGHTS = "Weights are those of the layers named, with their share of all candidate weights of the model."

#: the rows of one pattern whose masks moved, all with the same layers
Moving = Mapping[Row, LayerFlips]


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block | Fold]:
    """One panel a pattern. y: layers; x: flips per weight over all of training."""
    rows, too_many = few_labels(rows)
    patterns = _patterns(study, rows)
    shown, left_out = few(list(patterns), _MOST_PATTERNS, "patterns")
    if not shown:
        yield Prose(f"{_TITLE}: no figure. No record of a cell that ended well holds mask flips by layer.")
        return
    layers = [len(next(iter(patterns[name].values())).names) for name in shown]
    heights = [max(1.1, 0.145 * min(count, _MOST_LAYERS)) + 0.75 for count in layers]
    whole = Figure(figsize=(7.5, sum(heights)))
    axes = list(whole.subplots(len(shown), 1, squeeze=False, height_ratios=heights).flat)
    for axis, name in zip(axes, shown, strict=True):
        _dots(axis, patterns[name], styles(rows))
        axis.set_title(shorten(name, 60))
    seeds = counted(flips.seeds for name in shown for flips in patterns[name].values())
    cut = f" Drawn are the first {_MOST_LAYERS} of {max(layers)} layers." if max(layers) > _MOST_LAYERS else ""
    caption = (
        f"Mask flips per weight of each layer (its weights in brackets) over all steps, mean over {seeds}. "
        f"Dense: a shadow mask of that pattern, only watched.{cut}{left_out}{too_many}"
    )
    yield Fold(_TITLE, (drawn(study, rows, "layers", _TITLE, caption, whole, axes),))


def _patterns(study: Study, rows: Sequence[Row]) -> dict[str, Moving]:
    """Each pattern with the dense twin that watched it; most rows with flips first."""
    found: dict[str, dict[Row, LayerFlips]] = {}
    for row in rows:
        pattern = row.shadow if row.is_dense else row.pattern_text
        if pattern and row.means.get("sad_total") and (flips := layer_flips(row, study.loaded.records)):
            moving = found.setdefault(pattern, {})
            if not moving or next(iter(moving.values())).names == flips.names:
                moving[row] = flips
    sparse = {name: moving for name, moving in found.items() if not all(row.is_dense for row in moving)}
    return dict(sorted(sparse.items(), key=lambda item: -len(item[1])))


def _dots(axis: Axes, moving: Moving, look: Mapping[str, Style]) -> None:
    first = next(iter(moving.values()))
    place = np.arange(min(_MOST_LAYERS, len(first.names)))
    totals = np.concatenate([flips.total[place] for flips in moving.values()])
    log = totals.max() > _LOG * totals[totals > 0].min()
    for row, flips in moving.items():
        style, total = look[row.label], flips.total[place]
        shown = np.where(total > 0, total, np.nan) if log else total
        axis.plot(shown, place, markersize=4, linestyle=style.line, linewidth=0.6, label=row.label, **style.look)
    if log:
        axis.set_xscale("log")
        plain_numbers(axis, "x")
    else:
        axis.set_xlim(0, 1.06 * float(totals.max()))
    layers = list(zip(first.names, first.sizes, strict=True))[: len(place)]
    names = [f"{shorten(layer.removesuffix('.weight'), 44)} ({si(size)})" for layer, size in layers]
    axis.set_yticks(place, names, fontsize=7)
    axis.set_ylim(len(place) - 0.5, -0.5)
    axis.set_xlabel(f"flips per weight, all steps{' (log)' if log else ''}")


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
            Cell(some(group.layers, _MOST_NAMES), ", ".join(group.layers)),
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


def _share(weights: int, total: int) -> Cell:
    if not total:
        return Cell(str(weights), weights)
    share = weights / total
    return Cell(f"{si(weights)}{NBSP}({percent(share)})", weights, parts=(("share", share),))
