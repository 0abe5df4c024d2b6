"""Heat maps of differences in units of the task's margin, with number and verdict in each cell.

patterns_by_tasks      a (pattern, method) a line, a setting a column
methods_by_patterns    the same of one setting, a method a line and a pattern a column
in_margins             a row's difference in units of its margin
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nmbench.analysis.pairs import decimals
from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.setting import titles
from nmbench.analysis.verdict import Verdict
from nmbench.document.words import signed
from nmbench.report.layout import grid, inches, save
from nmbench.report.panels import Drawn, few, setting_title, shorten

__all__ = ["in_margins", "methods_by_patterns", "patterns_by_tasks"]

_MOST_LINES = 24
_MOST_COLUMNS = 8
_CELL = (1.02, 0.36)  # inches
_FULL = 8.0  # margins at which the colour is full
#: as in the forest plot: worse is vermillion, better is blue, which no common colour blindness confuses
_MAP = LinearSegmentedColormap.from_list("margins", ["#B34A00", "#F2C6A5", "#FFFFFF", "#A9CBE3", "#005A94"])
_SIGNS = {
    **{Verdict.BETTER: "▲", Verdict.NOT_WORSE: "●", Verdict.WORSE: "▼", Verdict.PERHAPS_WORSE: "▽"},
    Verdict.UNDECIDED: "◇",
}
MINUS = "\N{MINUS SIGN}"
Cells = Mapping[tuple[str, str], Row]
_READ = (
    "Each cell: sparse minus dense, paired by seed, in the metric's unit; then the verdict (▲ better, ● not worse, "
    "▼ worse, ▽ worse, perhaps within the margin, ◇ undecided). Colour: the same difference in units of the task's "
    "margin, positive is better, log scale on both sides of 0. Hatched: no difference is known."
)


def patterns_by_tasks(rows: Sequence[Row], path: Path) -> Drawn:
    """All settings; one of every task comes first where they are too many to draw."""
    title = "Patterns and tasks"
    sparse = [row for row in rows if not row.is_dense]
    settings = list(dict.fromkeys(row.setting for row in sparse))
    if len(settings) < 2:
        return Drawn(None, title, "There is one setting only, so there is nothing to lay beside it.")
    names = titles(settings)
    settings, left_out = few(_in_turn(settings), _MOST_COLUMNS, "settings")
    chosen = sorted((row for row in sparse if row.setting in settings), key=lambda row: row.order)
    lines, more = few(list(dict.fromkeys(row.name for row in chosen)), _MOST_LINES, "rows")
    cells = {(row.name, names[row.setting]): row for row in chosen}
    columns = [names[setting] for setting in settings]
    heads = {names[setting]: _head(names[setting], chosen, setting) for setting in settings}
    _draw(lines, columns, heads, cells, path)
    return Drawn(path.name, title, _READ + left_out + more)


def methods_by_patterns(rows: Sequence[Row], path: Path) -> Drawn:
    """The first setting that has two patterns and two methods."""
    title = "Methods and patterns"
    settings = list(dict.fromkeys(row.setting for row in rows))
    for setting in settings:
        here = [row for row in rows if row.setting == setting and not row.is_dense]
        columns, left_out = few(list(dict.fromkeys(row.pattern_text for row in here)), _MOST_COLUMNS, "patterns")
        methods = sorted(here, key=lambda row: row.order[3:])
        lines, more = few(list(dict.fromkeys(row.label for row in methods)), _MOST_LINES, "methods")
        if min(len(lines), len(columns)) > 1:
            cells = {(row.label, row.pattern_text): row for row in here}
            _draw(lines, columns, {name: name for name in columns}, cells, path)
            name = setting_title(setting, rows)
            which = f" {name}, the first of {len(settings)} settings with several of both." if name else ""
            return Drawn(path.name, title, _READ + left_out + more + which)
    return Drawn(None, title, "No setting has several patterns and several methods.")


def in_margins(row: Row) -> float:
    """The difference in units of the margin, turned so that positive is better; NaN without a margin or a pair."""
    if row.comparison is None or not row.metric.margin or not row.comparison.n:
        return math.nan
    return row.comparison.difference / row.metric.margin * (1 if row.metric.higher_is_better else -1)


def _in_turn(settings: Sequence[Setting]) -> list[Setting]:
    """The first setting of every task, then the second ones ..."""
    seen: dict[str, int] = {}
    turn = {}
    for setting in settings:
        turn[setting] = seen[setting.task] = seen.get(setting.task, -1) + 1
    return sorted(settings, key=lambda setting: turn[setting])


def _head(name: str, rows: Sequence[Row], setting: Setting) -> str:
    metric = next(row.metric for row in rows if row.setting == setting)
    unit = f", {metric.unit}" if metric.unit else ""
    task, _, rest = name.partition("/")
    parts = [shorten(task, 14), *([shorten(rest, 14)] if rest else [])]
    return "\n".join([*parts, f"{shorten(metric.name, 8)}{unit} {'↑' if metric.higher_is_better else '↓'}"])


def _draw(lines: Sequence[str], columns: Sequence[str], heads: Mapping[str, str], cells: Cells, path: Path) -> None:
    names = [shorten(line, 36) for line in lines]
    left = 0.2 + 0.075 * max(map(len, names))
    width = left + _CELL[0] * len(columns) + 0.85
    head = 0.1 + 0.15 * max(text.count("\n") + 1 for text in heads.values())
    figure, axes = grid([_CELL[1] * len(lines)], 1, width, left=left, right=0.85, top=head, bottom=0.08)
    axis = axes[0][0]
    values = np.full((len(lines), len(columns)), np.nan)
    for y, line in enumerate(lines):
        for x, column in enumerate(columns):
            values[y, x] = _cell(axis, x, y, cells.get((line, column)))
    shown = np.ma.masked_invalid(values)
    axis.pcolormesh(shown, cmap=_MAP, norm=Normalize(-1, 1), edgecolors="white", linewidth=1.5)
    axis.set_xlim(0, len(columns))
    axis.set_ylim(len(lines), 0)
    axis.set_yticks(np.arange(len(lines)) + 0.5, names, fontsize=8)
    axis.set_xticks(np.arange(len(columns)) + 0.5, [heads[column] for column in columns], fontsize=8)
    axis.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    _scale(figure, axis)
    save(figure, [], path)


def _cell(axis: Axes, x: int, y: int, row: Row | None) -> float:
    """Write what the cell says; its place on the colour scale, from -1 to 1, NaN for none."""
    if row is None or row.comparison is None or not row.comparison.n:
        axis.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, fill=False, hatch="////", edgecolor="#BBBBBB", lw=0))
        word = "" if row is None else row.words
        axis.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=7)
        return math.nan
    found = row.comparison
    verdict = (
        f"({found.lack})"
        if found.lack
        else "worse, perhaps"
        if found.verdict is Verdict.PERHAPS_WORSE
        else found.verdict.value
    )
    sign = _SIGNS[found.verdict]
    number = signed(row.comparison.difference, decimals(row.metric))
    number = number if len(number) < 10 else f"{row.comparison.difference:+.2g}"
    place = _place(in_margins(row))
    axis.text(
        x + 0.5,
        y + 0.5,
        f"{number.replace('-', MINUS)} {sign}\n{verdict}",
        ha="center",
        va="center",
        fontsize=7,
        color="white" if abs(place) > 0.82 else "black",
        linespacing=1.1,
    )
    return place


def _place(margins: float) -> float:
    """From margins to the colour scale: 0 in the middle, full at `_FULL` margins and beyond."""
    return math.copysign(min(1.0, math.log1p(abs(margins)) / math.log1p(_FULL)), margins)


def _scale(figure: Figure, axis: Axes) -> None:
    box, width = axis.get_position(), figure.get_figwidth()
    height = min(box.height, 2.2 / figure.get_figheight())
    bar = figure.add_axes((1 - 0.72 / width, box.y1 - height, 0.12 / width, height))
    figure.colorbar(ScalarMappable(Normalize(-1, 1), _MAP), cax=bar)
    ticks = [_FULL, 3, 1, 0, -1, -3, -_FULL]
    bar.set_yticks([_place(tick) for tick in ticks], [f"{tick:+g}".replace("+0", "0") for tick in ticks], fontsize=7)
    bar.set_title("margins", fontsize=7, y=1 + 0.04 / inches(bar))
