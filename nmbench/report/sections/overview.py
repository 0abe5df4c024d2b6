"""The small table of the first screen: difference and verdict of every pattern and method, at a glance."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from nmbench.analysis.pairs import decimals
from nmbench.analysis.rows import Row
from nmbench.analysis.setting import Setting
from nmbench.analysis.study import Study
from nmbench.analysis.verdict import Verdict
from nmbench.document.model import Block
from nmbench.document.table import Cell, Column, Table, numeric
from nmbench.document.words import NBSP, label, number, plural, signed, text
from nmbench.report.sections.quality import finite

Key = tuple[str, str, str]
_SIGN = "A difference is sparse - dense, paired by seed, in the unit at the head of its column; `-`: no record."
_MEANS = (
    "The mean over the columns is of differences in units of the task's margin, turned so that positive is better "
    "and -1 is just as bad as was declared to matter; it has no interval and no verdict, and stands only where every "
    "column has the row, with equally many seeds and a margin."
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
        cells += [numeric(means[key], lambda mean: signed(mean, 2))] if shown else []
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
