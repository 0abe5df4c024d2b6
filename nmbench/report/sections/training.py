"""The figures over training: SAD and loss, one panel a pattern.

sad       mask flips per weight per step, by method; the dense twin's shadow mask beside them
curves    training loss, by method, with the dense twin's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.series import STRETCHES, Series, band, flip_rate, has_flips, has_loss, training_loss
from nmbench.records.schema import Record
from nmbench.report.layout import MOST_PANELS, label_y, panels, save
from nmbench.report.panels import Drawn, Style, few, setting_title, shorten
from nmbench.report.sections.quality_figure import seeds_in_words

__all__ = ["curves", "sad"]

_MOST_LINES = 12
Groups = list[tuple[str, list[Row]]]


def sad(rows: Sequence[Row], records: Sequence[Record], look: Mapping[str, Style], path: Path) -> Drawn:
    """x: optimizer steps over all training passes; y: flips per weight per step, log scale."""
    title = "Mask flips through training"
    groups, left_out = _by_pattern(rows, records, has_flips, shadow=True)
    if not groups:
        return Drawn(None, title, "No record of a cell that ended well holds mask flips, so there is nothing to draw.")
    figure, axes = panels([name for name, _ in groups])
    for axis, (_, shown) in zip(axes, groups, strict=True):
        drawn = {row: _series(row, records, flip_rate) for row in shown}
        moving = {row: many for row, many in drawn.items() if any(np.any(series.y > 0) for series in many)}
        if moving:
            axis.set_yscale("log", subs=[])
        _lines(axis, {row: [_positive(series) for series in many] for row, many in moving.items()}, look)
        for row in drawn:
            if row not in moving:
                style = look[row.label]
                axis.plot([], [], color=style.colour, marker=style.marker, label=f"{row.label} (no flips)")
    label_y(axes, "mask flips per weight per step")
    save(figure, axes, path)
    caption = (
        f"Mask flips per weight and optimizer step, averaged over at most {STRETCHES} stretches of training (log "
        f"scale; a stretch without a flip leaves a gap): {_mean_of(groups)}. "
        "Dense: a shadow mask of that pattern, only watched."
    )
    return Drawn(path.name, title, caption + left_out)


def curves(rows: Sequence[Row], records: Sequence[Record], look: Mapping[str, Style], path: Path) -> Drawn:
    """x: optimizer steps over all training passes; y: training loss."""
    title = "Training curves"
    groups, left_out = _by_pattern(rows, records, has_loss, shadow=False)
    if not groups:
        return Drawn(None, title, "No record of a cell that ended well holds a training curve.")
    figure, axes = panels([name for name, _ in groups])
    for axis, (_, shown) in zip(axes, groups, strict=True):
        _lines(axis, {row: _series(row, records, training_loss) for row in shown}, look)
    label_y(axes, "training loss")
    save(figure, axes, path)
    caption = (
        f"Training loss, averaged over at most {STRETCHES} stretches of a training pass: {_mean_of(groups)}. "
        "A second training pass goes on to the right of the first."
    )
    return Drawn(path.name, title, caption + left_out)


def _mean_of(groups: Groups) -> str:
    seeds = seeds_in_words([row for _, shown in groups for row in shown])
    return seeds if seeds == "one seed" else f"{seeds}, band from the smallest to the largest"


def _by_pattern(
    rows: Sequence[Row], records: Sequence[Record], has: Callable[[Record], bool], shadow: bool
) -> tuple[Groups, str]:
    """One panel a (setting, pattern): its rows and the dense twin; with `shadow`, a twin that watched that pattern.

    Also what was left out, in words.
    """
    groups: Groups = []
    known = [row for row in rows if any(has(records[index]) for index in row.records)]
    keys = dict.fromkeys((row.setting, row.shadow if shadow and row.shadow else row.pattern_text) for row in known)
    sparse = [key for key in keys if key[1] != "dense"]
    for setting, pattern in sparse or list(keys):
        here = [row for row in known if row.setting == setting]
        dense = [row for row in here if row.is_dense and (not shadow or row.shadow == pattern)]
        others = [row for row in here if row.pattern_text == pattern and row not in dense]
        name = ", ".join(filter(None, [setting_title(setting, rows), pattern]))
        groups.append((name, dense + others))
    groups.sort(key=lambda group: _panel_order(group, rows))
    groups, left_out = few(groups, MOST_PANELS, "settings and patterns")
    most = max((len(shown) for _, shown in groups), default=0)
    if most > _MOST_LINES:
        left_out += f" A panel has the first {_MOST_LINES} of up to {most} lines."
    return [(shorten(name, 44), shown[:_MOST_LINES]) for name, shown in groups], left_out


def _panel_order(group: tuple[str, list[Row]], rows: Sequence[Row]) -> tuple[Setting, int]:
    last = group[1][-1]
    return last.setting, rows.index(last)


def _series(row: Row, records: Sequence[Record], read: Callable[[Record], Series]) -> list[Series]:
    return [series for index in row.records if len((series := read(records[index])).x)]


def _positive(series: Series) -> Series:
    """A stretch without a flip is a gap: a log scale has no zero."""
    return Series(series.x, np.where(series.y > 0, series.y, np.nan))


def _lines(axis: Axes, drawn: Mapping[Row, list[Series]], look: Mapping[str, Style]) -> None:
    for place, (row, many) in enumerate(drawn.items()):
        style, mean, low, high = look[row.label], *band(many)
        every = max(1, len(mean.x) // 6)
        axis.plot(
            mean.x,
            mean.y,
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=4,
            # each method's markers at other steps, or they would hide each other
            markevery=(place * every // len(drawn), every),
            label=row.label,
        )
        if len(many) > 1:
            axis.fill_between(mean.x, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("optimizer step")
