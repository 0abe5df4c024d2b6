"""Heat maps of differences in units of the task's margin, with number and verdict in each cell.

patterns_by_tasks      block of the front: a (pattern, method) a line, a setting a column
methods_by_patterns    block of a task: a method a line and a pattern a column, of one setting
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nmbench.analysis.pairs import decimals
from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.study import Study
from nmbench.analysis.titles import titles
from nmbench.document.model import Block, Fold, Picture, Prose
from nmbench.document.words import signed
from nmbench.report.sections.forest import LOOKS, look_of
from nmbench.report.sections.overview import in_margins
from nmbench.report.style import few, file_of, save, setting_title, shorten

__all__ = ["methods_by_patterns", "patterns_by_tasks"]

_MOST_LINES = 24
_MOST_COLUMNS = 8
_FULL = 8.0  # margins at which the colour is full
#: as in the forest plot: worse is vermillion, better is blue
_MAP = LinearSegmentedColormap.from_list("margins", ["#B34A00", "#F2C6A5", "#FFFFFF", "#A9CBE3", "#005A94"])
_NORM = SymLogNorm(linthresh=1.0, vmin=-_FULL, vmax=_FULL)
_READ = (
    "Each cell: sparse minus dense, paired by seed, in the metric's unit; then the verdict (▲ better, ● not worse, "
    "▼ worse, ◇ undecided). Colour: the same difference in units of the task's margin, positive is better, log scale "
    "on both sides of 0. Hatched: no difference is known."
)
Cells = Mapping[tuple[str, str], Row]


def patterns_by_tasks(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """All settings; one of every task comes first where they are too many to draw."""
    sparse = [row for row in rows if not row.dense]
    settings = list(dict.fromkeys(row.setting for row in sparse))
    if len(settings) < 2:
        return
    short = titles(settings)
    settings, left_out = few(_in_turn(settings), _MOST_COLUMNS, "settings")
    chosen = sorted((row for row in sparse if row.setting in settings), key=lambda row: row.order)
    lines, more = few(list(dict.fromkeys(row.full_label for row in chosen)), _MOST_LINES, "rows")
    cells = {(row.full_label, short[row.setting]): row for row in chosen}
    heads = {short[row.setting]: _head(short[row.setting], row) for setting in settings
             for row in chosen if row.setting == setting}  # fmt: skip
    figure = _drawn(lines, heads, cells)
    save(figure, [], study.figures / "overall-patterns.png")
    drawn = Picture("overall-patterns.png", "Patterns and tasks", "all tasks", _READ + left_out + more)
    yield Fold("Patterns and tasks as a heat map", (drawn,))


def methods_by_patterns(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """The first setting that has two patterns and two methods."""
    title = "Methods and patterns"
    settings = list(dict.fromkeys(row.setting for row in rows))
    for setting in settings:
        here = [row for row in rows if row.setting == setting and not row.dense]
        columns, left_out = few(list(dict.fromkeys(str(row.pattern) for row in here)), _MOST_COLUMNS, "patterns")
        methods = sorted(here, key=lambda row: row.order[3:])
        lines, more = few(list(dict.fromkeys(row.label for row in methods)), _MOST_LINES, "methods")
        if min(len(lines), len(columns)) > 1:
            cells = {(row.label, str(row.pattern)): row for row in here}
            path = file_of(study, "methods", rows)
            save(_drawn(lines, {name: name for name in columns}, cells), [], path)
            name = setting_title(setting, rows)
            which = f" {name}, the first of {len(settings)} settings with several of both." if name else ""
            yield Picture(path.name, title, setting.task, _READ + left_out + more + which)
            return
    yield Prose(f"{title}: no figure. No setting has several patterns and several methods.")


def _in_turn(settings: Sequence[Setting]) -> list[Setting]:
    """The first setting of every task, then the second ones ..."""
    seen: dict[str, int] = {}
    turn = {}
    for setting in settings:
        turn[setting] = seen[setting.task] = seen.get(setting.task, -1) + 1
    return sorted(settings, key=lambda setting: turn[setting])


def _head(name: str, row: Row) -> str:
    unit = f", {row.metric.unit}" if row.metric.unit else ""
    parts = [shorten(part, 14) for part in name.partition("/")[::2] if part]
    return "\n".join([*parts, f"{shorten(row.metric.name, 8)}{unit} {'↑' if row.metric.higher_is_better else '↓'}"])


def _drawn(lines: Sequence[str], heads: Mapping[str, str], cells: Cells) -> Figure:
    figure = Figure(figsize=(3.2 + 1.02 * len(heads), 0.7 + 0.36 * len(lines)))
    axis = figure.subplots()
    values = np.array(
        [
            [_cell(axis, x, y, cells.get((line, column))) for x, column in enumerate(heads)]
            for y, line in enumerate(lines)
        ]
    )
    axis.pcolormesh(np.ma.masked_invalid(values), cmap=_MAP, norm=_NORM, edgecolors="white", linewidth=1.5)
    axis.set_xlim(0, len(heads))
    axis.set_ylim(len(lines), 0)
    axis.set_yticks(np.arange(len(lines)) + 0.5, [shorten(line, 36) for line in lines], fontsize=8)
    axis.set_xticks(np.arange(len(heads)) + 0.5, list(heads.values()), fontsize=8)
    axis.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(_NORM, _MAP), ax=axis, aspect=12, shrink=min(1.0, 4 / len(lines)))
    ticks = [_FULL, 3, 1, 0, -1, -3, -_FULL]
    bar.set_ticks(ticks, labels=[f"{tick:+g}" if tick else "0" for tick in ticks], fontsize=7)
    bar.minorticks_off()
    bar.set_label("margins", fontsize=7)
    return figure


def _cell(axis: Axes, x: int, y: int, row: Row | None) -> float:
    """Write what the cell says; its difference in margins, NaN for none."""
    if row is None or row.comparison is None or not row.comparison.n:
        axis.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, fill=False, hatch="////", edgecolor="#BBBBBB", lw=0))
        axis.text(x + 0.5, y + 0.5, "" if row is None else str(row.verdict), ha="center", va="center", fontsize=7)
        return math.nan
    number = signed(row.comparison.difference, decimals(row.metric))
    number = number if len(number) < 10 else f"{row.comparison.difference:+.2g}"
    margins = in_margins(row)
    words = str(row.verdict).replace("undecided (", "(")
    axis.text(
        x + 0.5,
        y + 0.5,
        f"{number.replace('-', '−')} {LOOKS[look_of(row)][3]}\n{words}",
        ha="center",
        va="center",
        fontsize=7,
        color="white" if abs(margins) > 5 else "black",
        linespacing=1.1,
    )
    return margins
