"""The figures over training: SAD and loss, one panel a pattern.

sad       mask flips per weight per step, by method; the dense twin's shadow mask beside them
curves    training loss, by method, with the dense twin's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from nmbench.record import Record
from nmbench.report.compare import Row, Setting
from nmbench.report.panels import Drawn, Style, panels, row_label, save, setting_title
from nmbench.report.series import STRETCHES, Series, band, flip_rate, training_loss

__all__ = ["curves", "sad"]

Groups = list[tuple[str, list[Row]]]


def sad(rows: Sequence[Row], records: Sequence[Record], look: Mapping[str, Style], path: Path) -> Drawn:
    """x: optimizer steps over all training passes; y: flips per weight per step, log scale."""
    title = "SAD through training"
    groups = _by_pattern(rows, records, flip_rate, shadow=True)
    if not groups:
        return Drawn(None, title, "No record of a cell that ended well holds mask flips, so there is no SAD to draw.")
    figure, axes = panels([name for name, _ in groups])
    for axis, (_, shown) in zip(axes, groups, strict=True):
        drawn = {row: _series(row, records, flip_rate) for row in shown}
        moving = {row for row, many in drawn.items() if any(np.any(series.y > 0) for series in many)}
        _lines(axis, drawn, look, {row: row_label(row) + ("" if row in moving else " (no flips)") for row in drawn})
        if moving:
            axis.set_yscale("log", nonpositive="mask")
    axes[0].set_ylabel("mask flips per weight per step")
    save(figure, axes, path)
    caption = (
        f"Mask flips per weight and optimizer step, averaged over at most {STRETCHES} stretches of training (log "
        "scale; a stretch without a flip leaves a gap): mean over seeds, band from smallest to largest seed. "
        "Dense: a shadow mask of that pattern, only watched."
    )
    return Drawn(path.name, title, caption)


def curves(rows: Sequence[Row], records: Sequence[Record], look: Mapping[str, Style], path: Path) -> Drawn:
    """x: optimizer steps over all training passes; y: training loss."""
    title = "Training curves"
    groups = _by_pattern(rows, records, training_loss, shadow=False)
    if not groups:
        return Drawn(None, title, "No record of a cell that ended well holds a training curve.")
    figure, axes = panels([name for name, _ in groups])
    for axis, (_, shown) in zip(axes, groups, strict=True):
        _lines(
            axis,
            {row: _series(row, records, training_loss) for row in shown},
            look,
            {row: row_label(row) for row in shown},
        )
    axes[0].set_ylabel("training loss")
    save(figure, axes, path)
    caption = (
        "Training loss: mean over seeds, band from smallest to largest seed. "
        "A second training pass goes on to the right of the first."
    )
    return Drawn(path.name, title, caption)


def _by_pattern(
    rows: Sequence[Row], records: Sequence[Record], read: Callable[[Record], Series], shadow: bool
) -> Groups:
    """One panel a (setting, pattern): its rows and the dense twin; with `shadow`, a twin that watched that pattern."""
    groups: Groups = []
    known = [row for row in rows if _series(row, records, read)]
    keys = dict.fromkeys((row.setting, row.shadow if shadow and row.shadow else row.pattern) for row in known)
    sparse = [key for key in keys if key[1] != "dense"]
    for setting, pattern in sparse or list(keys):
        here = [row for row in known if row.setting == setting]
        dense = [row for row in here if row.pattern == "dense" and (not shadow or row.shadow == pattern)]
        others = [row for row in here if row.pattern == pattern and row not in dense]
        name = ", ".join(filter(None, [setting_title(setting, rows), pattern]))
        groups.append((name, dense + others))
    return sorted(groups, key=lambda group: _panel_order(group, rows))


def _panel_order(group: tuple[str, list[Row]], rows: Sequence[Row]) -> tuple[Setting, int]:
    last = group[1][-1]
    return last.setting, rows.index(last)


def _series(row: Row, records: Sequence[Record], read: Callable[[Record], Series]) -> list[Series]:
    return [series for index in row.records if len((series := read(records[index])).x)]


def _lines(axis: Axes, drawn: Mapping[Row, list[Series]], look: Mapping[str, Style], names: Mapping[Row, str]) -> None:
    for place, (row, many) in enumerate(drawn.items()):
        style, mean, low, high = look[row_label(row)], *band(many)
        every = max(1, len(mean.x) // 8)
        axis.plot(
            mean.x,
            mean.y,
            color=style.colour,
            linestyle=style.line,
            linewidth=1.2,
            marker=style.marker,
            markersize=4,
            # each method's markers at other steps, or they would hide each other
            markevery=(place * every // len(drawn), every),
            label=names[row],
        )
        if len(many) > 1:
            axis.fill_between(mean.x, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("optimizer step")
