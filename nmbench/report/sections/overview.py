"""The tables that look over more than one row: difference and verdict at a glance.

patterns_by_tasks     block of the front: a (pattern, method) a row, a setting a column
methods_by_patterns   block of a setting: a method a row, a pattern a column
heat_map              block of the front: the same with the difference as a colour
in_margins            a row's difference in units of its margin
"""

from __future__ import annotations

import math
import statistics
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
from nmbench.analysis.verdict import Verdict
from nmbench.document.model import Block, Fold, Picture
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, label, number, plural, signed, text
from nmbench.report.sections.forest import look_of
from nmbench.report.sections.quality import finite
from nmbench.report.style import few, save, shorten

__all__ = ["heat_map", "in_margins", "methods_by_patterns", "patterns_by_tasks"]

Key = tuple[str, str, str]
_SIGN = "A difference is sparse - dense, paired by seed, in the unit at the head of its column; `-`: no record."
_MEANS = (
    "The mean over the columns is of differences in units of the task's margin, turned so that positive is better "
    "and -1 is just as bad as was declared to matter; it has no interval and no verdict, and stands only where every "
    "column has the row, with equally many seeds and a margin."
)
_MOST_LINES = 24
_MOST_COLUMNS = 8
_FULL = 8.0  # margins at which the colour is full
#: as in the forest plot: worse is vermillion, better is blue
_MAP = LinearSegmentedColormap.from_list("margins", ["#B34A00", "#F2C6A5", "#FFFFFF", "#A9CBE3", "#005A94"])
_NORM = SymLogNorm(linthresh=1.0, vmin=-_FULL, vmax=_FULL)
_READ = (
    "Each cell: sparse minus dense, paired by seed, in the metric's unit; then the verdict (▲ better, ● not worse, "
    "▼ worse, ▽ worse, perhaps within the margin, ◇ undecided). Colour: the same difference in units of the task's "
    "margin, positive is better, log scale on both sides of 0. Hatched: no difference is known."
)


def patterns_by_tasks(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """All settings beside each other; the methods and patterns of the setting where there is only one.

    A mean over the columns is shown, in margins, only where every column has the row with equally many seeds.
    """
    sparse = sorted((row for row in rows if not row.is_dense), key=lambda row: row.order)
    settings = [setting for setting, own in study.settings.items() if not all(row.is_dense for row in own)]
    if len(settings) == 1:
        yield _by_patterns(study.settings[settings[0]])
    if len(settings) < 2:
        return
    found: dict[Key, dict[Setting, Row]] = {}
    for row in sparse:
        found.setdefault((row.pattern_text, row.method, row.hyper), {})[row.setting] = row
    short = study.titles
    means = {key: _mean_in_margins(settings, of) for key, of in found.items()}
    shown = any(mean is not None for mean in means.values())
    columns = [Column("pattern", "Pattern"), Column("method", "Method")]
    columns += [Column(short[one], _titled(short[one], study.settings[one][0])) for one in settings]
    columns += [Column("mean_in_margins", "Mean, in margins", "r")] if shown else []
    body = []
    for key, of in found.items():
        cells = [Cell(key[0]), Cell(label(*key[1:])), *(_difference(of.get(setting)) for setting in settings)]
        cells += [Cell("-" if (mean := means[key]) is None else signed(mean, 2), mean)] if shown else []
        body.append(tuple(cells))
    notes = (_SIGN, *([_MEANS] if shown else []))
    yield Table("patterns-by-tasks", "Patterns and tasks", tuple(columns), tuple(body), notes, keys=2)


def _titled(name: str, row: Row) -> str:
    metric = row.metric
    if not metric.name:
        return name
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{name} ({metric.name}{unit} {'↑' if metric.higher_is_better else '↓'})"


def _difference(row: Row | None) -> Cell:
    """For instance "-0.23 not worse"; the verdict alone where there is no pair."""
    if row is None:
        return Cell("-")
    found = row.comparison
    if found is None or not found.n:
        return Cell(row.words, parts=(("verdict", row.words),))
    words = found.in_words if found.verdict is Verdict.PERHAPS_WORSE else found.in_words.replace(" ", NBSP)
    shown = f"{signed(found.difference, decimals(row.metric))} {words}"
    strong = found.verdict is Verdict.BETTER or found.verdict.below
    return Cell(shown, found.difference, strong, parts=(("verdict", row.words),))


def _mean_in_margins(settings: Sequence[Setting], of: Mapping[Setting, Row]) -> float | None:
    """None unless every setting has the row, with a margin and equally many pairs."""
    rows = [of[setting] for setting in settings if setting in of]
    pairs = {row.pairs for row in rows}
    if len(rows) < len(settings) or len(pairs) > 1 or 0 in pairs or not all(row.metric.margin > 0 for row in rows):
        return None
    return statistics.fmean(map(in_margins, rows))


def in_margins(row: Row) -> float:
    """The difference in units of the margin, turned so that positive is better; NaN without a margin or a pair."""
    if row.comparison is None or not row.metric.margin or not row.comparison.n:
        return math.nan
    return row.comparison.difference / row.metric.margin * (1 if row.metric.higher_is_better else -1)


def methods_by_patterns(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Where there are two patterns and two methods at least, and other settings: one alone stands at the front."""
    sparse = [row for row in rows if not row.is_dense]
    if len(study.settings) > 1 and len({row.pattern for row in sparse}) > 1 < len({row.label for row in sparse}):
        yield _by_patterns(rows)


def _by_patterns(rows: Sequence[Row]) -> Table:
    sparse = sorted((row for row in rows if not row.is_dense), key=lambda row: row.order)
    patterns = list(dict.fromkeys(row.pattern_text for row in sparse))
    # by method, the default settings first, as in every other table
    methods = sorted({(row.method, row.hyper) for row in sparse}, key=lambda key: (key[0], key[1] != "{}", key[1]))
    cells = {(row.pattern_text, row.method, row.hyper): row for row in sparse}
    columns = (Column("method", "Method"), *(Column(pattern, pattern) for pattern in patterns))
    body = tuple(
        (Cell(label(*method)), *(_difference(cells.get((pattern, *method))) for pattern in patterns))
        for method in methods
    )
    metric = next((row.metric for row in sparse if row.metric.name), sparse[0].metric)
    about = text(f"{metric.name} ({metric.unit})" if metric.unit else metric.name or "the primary metric")
    notes = (f"Sparse - dense in {about}, {'higher' if metric.higher_is_better else 'lower'} is better, paired by seed;"
             f" margin {metric.margin:g}. `-`: no record.", *_dense(rows))  # fmt: skip
    return Table("methods-by-patterns", "Methods and patterns", columns, body, notes)


def _dense(rows: Sequence[Row]) -> list[str]:
    """What the dense twin reaches, in words."""
    dense = next((row for row in rows if row.is_dense and row.seeds), None)
    values = finite(dense) if dense else []
    if dense is None or not values:
        return []
    digits = decimals(dense.metric)
    spread = f" (SD {number(statistics.stdev(values), digits)})" if len(values) > 1 else ""
    mean = f"{number(statistics.fmean(values), digits)} {dense.metric.unit}".rstrip()
    return [f"Dense: {text(mean)}{spread}, {plural(len(values), 'seed')}."]


# -- the heat map --------------------------------------------------------------------------------------------------
def heat_map(study: Study, rows: Sequence[Row]) -> Iterator[Fold]:
    """The same as colours: patterns by settings, or methods by patterns where there is one setting only.

    Of too many settings, one of every task comes first.
    """
    sparse = sorted((row for row in rows if not row.is_dense), key=lambda row: row.order)
    settings, left_out = few(_in_turn(list(dict.fromkeys(row.setting for row in sparse))), _MOST_COLUMNS, "settings")
    if len(settings) > 1:
        cells = {(row.name, study.titles[row.setting]): row for row in sparse if row.setting in settings}
        heads = {study.titles[row.setting]: _head(study.titles[row.setting], row) for row in cells.values()}
    else:
        cells = {(row.label, row.pattern_text): row for row in sparse}
        columns, left_out = few(list(dict.fromkeys(row.pattern_text for row in sparse)), _MOST_COLUMNS, "patterns")
        heads = {name: name for name in columns}
    lines, more = few(list(dict.fromkeys(line for line, _ in cells)), _MOST_LINES, "rows")
    if min(len(lines), len(heads)) > 1:
        save(_colours(lines, heads, cells), [], study.figures / "overall-patterns.png")
        picture = Picture("overall-patterns.png", "Patterns at a glance", "all tasks", _READ + left_out + more)
        yield Fold(picture.title, (picture,))


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


def _colours(lines: Sequence[str], heads: Mapping[str, str], cells: Mapping[tuple[str, str], Row]) -> Figure:
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
        axis.text(x + 0.5, y + 0.5, "" if row is None else row.words, ha="center", va="center", fontsize=7)
        return math.nan
    number = signed(row.comparison.difference, decimals(row.metric))
    number = number if len(number) < 10 else f"{row.comparison.difference:+.2g}"
    margins = in_margins(row)
    lack = f"\n({row.lack})" if row.lack else ""
    colour = "white" if abs(margins) > 5 else "black"
    words = f"{number.replace('-', '−')} {look_of(row.comparison)[3]}{lack}"
    axis.text(x + 0.5, y + 0.5, words, ha="center", va="center", fontsize=7.5, color=colour)
    return margins
