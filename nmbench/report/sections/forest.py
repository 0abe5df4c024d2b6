"""The forest plot: paired differences to the dense twin with their 95 % intervals, against the task's margin.

figure     block of a task
LOOKS      colour, marker and sign of each verdict, in every figure that shows one
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Picture, Prose
from nmbench.document.words import plural
from nmbench.report.sections.quality import compared
from nmbench.report.style import difference_axis, few, file_of, save, setting_title, shorten

__all__ = ["LOOKS", "figure"]

#: verdict -> colour, marker, filled?, the sign for it in a text. The shape says it where the colour cannot
LOOKS = {
    "better": ("#0072B2", "^", True, "▲"),
    "not worse": ("#009E73", "o", True, "●"),
    "worse": ("#D55E00", "v", True, "▼"),
    "undecided": ("#555555", "D", False, "◇"),
    "one seed": ("#555555", "x", True, "◇"),
}
_TITLE = "Differences to the dense twin"
_MOST_LINES = 30
_MOST_SETTINGS = 3


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """One panel a setting, one line a (pattern, method). x: sparse - dense, in the metric's unit."""
    groups = [compared(row for row in rows if row.setting == setting)
              for setting in dict.fromkeys(row.setting for row in rows)]  # fmt: skip
    groups = [own for own in groups if own]
    if not groups:
        yield Prose(
            f"{_TITLE}: no figure. No sparse cell has a dense twin that ended well, so there is no difference to draw."
        )
        return
    groups, left_out = few(groups, _MOST_SETTINGS, "settings")
    cut = [few(own, _MOST_LINES, "rows") for own in groups]
    left_out += "".join(dict.fromkeys(words for _, words in cut))
    heights = [0.19 * len(own) + 0.5 for own, _ in cut]
    whole = Figure(figsize=(7.5, sum(heights) + 0.2))
    axes = list(whole.subplots(len(cut), 1, squeeze=False, height_ratios=heights).flat)
    for axis, (own, _) in zip(axes, cut, strict=True):
        axis.set_title(shorten(setting_title(own[0].setting, rows), 60))
        _panel(axis, own)
    path = file_of(study, "forest", rows)
    save(whole, axes, path)
    counts = sorted({row.pairs for own, _ in cut for row in own})
    seeds = plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    caption = (
        f"Sparse minus dense, paired by seed ({seeds}): mean difference and its 95 % t interval over seeds (none for "
        "one seed). The line is no difference, the dashed line and the grey zone the margin that the task declares, "
        "far beyond which the scale is logarithmic; a verdict is read off the interval."
    )
    yield Picture(path.name, _TITLE, rows[0].setting.task, caption + left_out)


def look_of(row: Row) -> str:
    """The key in `LOOKS` of a row that is compared."""
    return row.verdict.split(" (")[0] if row.pairs > 1 else "one seed"


def _panel(axis: Axes, rows: Sequence[Row]) -> None:
    difference_axis(axis, "x", rows)
    for name, (colour, marker, filled, _) in LOOKS.items():
        own = [(-place, row.comparison) for place, row in enumerate(rows) if row.comparison and look_of(row) == name]
        if own:
            ends = [one.interval or (math.nan, math.nan) for _, one in own]
            gaps = [one.difference for _, one in own]
            axis.errorbar(
                gaps,
                [y for y, _ in own],
                xerr=[[abs(end[side] - gap) for end, gap in zip(ends, gaps, strict=True)] for side in (0, 1)],
                linestyle="",
                marker=marker,
                color=colour,
                mfc=colour if filled else "white",
                markersize=6,
                capsize=3,
                label=name,
            )
    for place in range(1, len(rows)):
        if rows[place].pattern != rows[place - 1].pattern:
            axis.axhline(0.5 - place, color="black", alpha=0.25, linewidth=0.6)
    axis.set_ylim(0.5 - len(rows), 0.5)
    axis.set_yticks([-place for place in range(len(rows))], [shorten(row.full_label, 40) for row in rows], fontsize=8)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
