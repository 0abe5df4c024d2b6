"""The figures over training, one panel a pattern: mask flips (SAD) and loss. `flips` and `curves`, blocks of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.series import STRETCHES, Series, band, flip_rate, has_flips, has_loss, training_loss
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Picture, Prose
from nmbench.records.schema import Record
from nmbench.report.sections.quality import seeds_in_words
from nmbench.report.style import (
    MOST_PANELS,
    Style,
    few,
    file_of,
    panels,
    plain_numbers,
    save,
    setting_title,
    styles,
)

__all__ = ["curves", "flips"]

_FLIPS, _CURVES = "Mask flips through training", "Training curves"
_MOST_LINES = 12
Groups = list[tuple[str, list[Row]]]


def flips(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """x: optimizer steps over all training passes; y: flips per weight per step, log scale."""
    groups, left_out = _by_pattern(study, rows, has_flips, shadow=True)
    if not groups:
        yield Prose(f"{_FLIPS}: no figure. No record of a cell that ended well holds mask flips.")
        return
    figure, axes = panels([name for name, _ in groups], sharey=True)
    look = styles(rows)
    for axis, (_, shown) in zip(axes, groups, strict=True):
        drawn = {row: _series(study, row, flip_rate) for row in shown}
        moving = {row: many for row, many in drawn.items() if any(np.any(series.y > 0) for series in many)}
        if moving:
            axis.set_yscale("log")
            plain_numbers(axis, "y")
        _lines(axis, {row: [_positive(series) for series in many] for row, many in moving.items()}, look)
        for row in drawn:
            if row not in moving:
                axis.plot([], [], label=f"{row.label} (no flips)", **look[row.label].look)
    axes[0].set_ylabel("mask flips per weight per step")
    path = file_of(study, "sad", rows)
    save(figure, axes, path)
    caption = (
        f"Mask flips per weight and optimizer step, averaged over at most {STRETCHES} stretches of training (log "
        f"scale; a stretch without a flip leaves a gap): {_mean_of(groups)}. "
        "Dense: a shadow mask of that pattern, only watched."
    )
    yield Picture(path.name, _FLIPS, rows[0].setting.task, caption + left_out)


def curves(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """x: optimizer steps over all training passes; y: training loss."""
    groups, left_out = _by_pattern(study, rows, has_loss, shadow=False)
    if not groups:
        yield Prose(f"{_CURVES}: no figure. No record of a cell that ended well holds a training curve.")
        return
    figure, axes = panels([name for name, _ in groups], sharey=True)
    look = styles(rows)
    for axis, (_, shown) in zip(axes, groups, strict=True):
        _lines(axis, {row: _series(study, row, training_loss) for row in shown}, look)
    axes[0].set_ylabel("training loss")
    path = file_of(study, "curves", rows)
    save(figure, axes, path)
    caption = (
        f"Training loss, averaged over at most {STRETCHES} stretches of a training pass: {_mean_of(groups)}. "
        "A second training pass goes on to the right of the first."
    )
    yield Picture(path.name, _CURVES, rows[0].setting.task, caption + left_out)


def _mean_of(groups: Groups) -> str:
    seeds = seeds_in_words(row for _, shown in groups for row in shown)
    return seeds if seeds == "one seed" else f"{seeds}, band from the smallest to the largest"


def _by_pattern(study: Study, rows: Sequence[Row], has: Callable[[Record], bool], shadow: bool) -> tuple[Groups, str]:
    """One panel a (setting, pattern): its rows and the dense twin; with `shadow`, a twin that watched that pattern.

    Also what was left out, in words.
    """
    groups: Groups = []
    known = [row for row in rows if any(map(has, study.records_of(row)))]
    keys = dict.fromkeys((row.setting, row.shadow if shadow and row.shadow else row.pattern) for row in known)
    sparse = [key for key in keys if str(key[1]) != "dense"]
    for setting, pattern in sparse or list(keys):
        here = [row for row in known if row.setting == setting]
        dense = [row for row in here if row.dense and (not shadow or row.shadow == pattern)]
        others = [row for row in here if row.pattern == pattern and row not in dense]
        name = ", ".join(filter(None, [setting_title(setting, rows), str(pattern)]))
        groups.append((name, dense + others))
    groups.sort(key=lambda group: _panel_order(group, rows))
    groups, left_out = few(groups, MOST_PANELS, "settings and patterns")
    most = max((len(shown) for _, shown in groups), default=0)
    if most > _MOST_LINES:
        left_out += f" A panel has the first {_MOST_LINES} of up to {most} lines."
    return [(name, shown[:_MOST_LINES]) for name, shown in groups], left_out


def _panel_order(group: tuple[str, list[Row]], rows: Sequence[Row]) -> tuple[Setting, int]:
    last = group[1][-1]
    return last.setting, rows.index(last)


def _series(study: Study, row: Row, read: Callable[[Record], Series]) -> list[Series]:
    return [series for record in study.records_of(row) if len((series := read(record)).x)]


def _positive(series: Series) -> Series:
    """A stretch without a flip is a gap: a log scale has no zero."""
    return Series(series.x, np.where(series.y > 0, series.y, np.nan))


def _lines(axis: Axes, drawn: Mapping[Row, list[Series]], look: Mapping[str, Style]) -> None:
    for place, (row, many) in enumerate(drawn.items()):
        style, (mean, low, high) = look[row.label], band(many)
        every = max(1, len(mean.x) // 6)
        axis.plot(
            mean.x,
            mean.y,
            linestyle=style.line,
            markersize=4,
            # each method's markers at other steps, or they would hide each other
            markevery=(place * every // len(drawn), every),
            label=row.label,
            **style.look,
        )
        if len(many) > 1:
            axis.fill_between(mean.x, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("optimizer step")
