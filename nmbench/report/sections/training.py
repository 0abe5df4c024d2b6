"""Figures over training, one panel a pattern: mask flips (SAD) and loss. `flips` and `curves`, blocks of a setting."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmbench.analysis.rows import Row
from nmbench.analysis.series import STRETCHES, Series, band, flip_rate, has_flips, has_loss, training_loss
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Prose
from nmbench.records.schema import Record
from nmbench.report.sections.quality import seeds_in_words
from nmbench.report.style import MOST_PANELS, Style, drawn, few, panels, plain_numbers, styles

_FLIPS, _CURVES = "Mask flips through training", "Training curves"
_MOST_LINES = 12

Groups = dict[str, list[Row]]


def flips(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """x: optimizer steps over all training passes; y: flips per weight per step, log scale."""
    groups, left_out = _by_pattern(study, rows, has_flips, shadow=True)
    if not groups:
        yield Prose(f"{_FLIPS}: no figure. No record of a cell that ended well holds mask flips.")
        return
    figure, axes = _figure(study, rows, groups, flip_rate, log=True)
    axes[0].set_ylabel("mask flips per weight per step")
    caption = (
        f"Mask flips per weight and optimizer step, averaged over at most {STRETCHES} stretches of training (log "
        f"scale; a stretch without a flip leaves a gap): {_mean_of(groups)}. "
        "Dense: a shadow mask of that pattern, only watched."
    )
    yield drawn(study, rows, "sad", _FLIPS, caption + left_out, figure, axes)


def curves(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """x: optimizer steps over all training passes; y: training loss."""
    groups, left_out = _by_pattern(study, rows, has_loss, shadow=False)
    if not groups:
        yield Prose(f"{_CURVES}: no figure. No record of a cell that ended well holds a training curve.")
        return
    figure, axes = _figure(study, rows, groups, training_loss)
    axes[0].set_ylabel("training loss")
    caption = (
        f"Training loss, averaged over at most {STRETCHES} stretches of a training pass: {_mean_of(groups)}. "
        "A second training pass goes on to the right of the first."
    )
    yield drawn(study, rows, "curves", _CURVES, caption + left_out, figure, axes)


def _figure(
    study: Study, rows: Sequence[Row], groups: Groups, read: Callable[[Record], Series], log: bool = False
) -> tuple[Figure, list[Axes]]:
    """A panel a pattern. On a log scale a value of 0 is a gap, and a row that is always 0 only stands in the legend."""
    figure, axes = panels(list(groups), sharey=True)
    look = styles(rows)
    for axis, shown in zip(axes, groups.values(), strict=True):
        series = {row: _series(study, row, read) for row in shown}
        moving = {row: many for row, many in series.items() if not log or any(np.any(one.y > 0) for one in many)}
        if log and moving:
            axis.set_yscale("log")
            plain_numbers(axis, "y")
            moving = {row: [_positive(one) for one in many] for row, many in moving.items()}
        _lines(axis, moving, look)
        for row in (row for row in series if row not in moving):
            axis.plot([], [], label=f"{row.label} (no flips)", **look[row.label].look)
    return figure, axes


def _mean_of(groups: Groups) -> str:
    seeds = seeds_in_words(row for shown in groups.values() for row in shown)
    return seeds if seeds == "one seed" else f"{seeds}, band from the smallest to the largest"


def _by_pattern(study: Study, rows: Sequence[Row], has: Callable[[Record], bool], shadow: bool) -> tuple[Groups, str]:
    """Pattern -> its rows after the dense twin (with `shadow`, where it watched that pattern); "dense" if it is alone.

    Also what was left out, in words.
    """
    known = [row for row in rows if any(map(has, study.records_of(row)))]
    dense = [row for row in known if row.is_dense]
    names = dict.fromkeys(row.pattern_text for row in known if not row.is_dense)
    if shadow:
        names |= dict.fromkeys(row.shadow for row in dense if row.shadow)
    groups = {
        name: [
            *(row for row in dense if not shadow or row.shadow == name),
            *(row for row in known if not row.is_dense and row.pattern_text == name),
        ]
        for name in names
    } or ({"dense": dense} if dense else {})
    shown, left_out = few(list(groups), MOST_PANELS, "patterns")
    most = max((len(groups[name]) for name in shown), default=0)
    if most > _MOST_LINES:
        left_out += f" A panel has the first {_MOST_LINES} of up to {most} lines."
    return {name: groups[name][:_MOST_LINES] for name in shown}, left_out


def _series(study: Study, row: Row, read: Callable[[Record], Series]) -> list[Series]:
    return [series for record in study.records_of(row) if len((series := read(record)).x)]


def _positive(series: Series) -> Series:
    """A stretch without a flip is a gap: a log scale has no zero."""
    return Series(series.x, np.where(series.y > 0, series.y, np.nan))


def _lines(axis: Axes, series: Mapping[Row, list[Series]], look: Mapping[str, Style]) -> None:
    for place, (row, many) in enumerate(series.items()):
        style, (mean, low, high) = look[row.label], band(many)
        every = max(1, len(mean.x) // 6)
        axis.plot(
            mean.x,
            mean.y,
            linestyle=style.line,
            markersize=4,
            # each method's markers at other steps, or they would hide each other
            markevery=(place * every // len(series), every),
            label=row.label,
            **style.look,
        )
        if len(many) > 1:
            axis.fill_between(mean.x, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("optimizer step")
