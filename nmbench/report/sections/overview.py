"""The tables that look over more than one row: patterns x tasks, methods x patterns, and what the seeds can show.

    patterns_by_tasks     difference and verdict of every (pattern, method) in every setting
    methods_by_patterns   the same of one setting, a method a row and a pattern a column
    precision_table, examples_table     from nmbench.report.sections.seed_tables

All return `Table`s; None, or no table, where there is nothing to look over.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from nmbench.analysis.pairs import decimals
from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.setting import titles
from nmbench.analysis.verdict import Verdict
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, label, number, plural, signed, text
from nmbench.report.sections.seed_tables import examples_table, precision_table

__all__ = ["examples_table", "methods_by_patterns", "patterns_by_tasks", "precision_table"]

Key = tuple[str, str, str]


def patterns_by_tasks(rows: Sequence[Row]) -> Table | None:
    """One row a (pattern, method, settings), one column a setting; None for fewer than two settings with a sparse row.

    A mean over the columns is shown, in margins, only where every column has the row with equally many seeds; the
    notes name what the others miss.
    """
    sparse = [row for row in rows if not row.is_dense]
    settings = list(dict.fromkeys(row.setting for row in sparse))
    if len(settings) < 2:
        return None
    found: dict[Key, dict[Setting, Row]] = {}
    for row in sorted(sparse, key=lambda row: row.order):
        found.setdefault((row.pattern_text, row.method, row.hyper), {})[row.setting] = row
    names = titles(settings)
    means = {key: _mean_in_margins(settings, of) for key, of in found.items()}
    shown = any(mean is not None for mean in means.values())
    columns = [Column("pattern", "Pattern"), Column("method", "Method")]
    columns += [
        Column(names[setting], _titled(names[setting], next(row for row in sparse if row.setting == setting)))
        for setting in settings
    ]
    columns += [Column("mean_in_margins", "Mean, in margins", "r")] if shown else []
    body = []
    for key, of in found.items():
        cells = [Cell(key[0]), Cell(label(*key[1:])), *(_difference(of.get(setting)) for setting in settings)]
        mean = means[key]
        cells += [Cell("-" if mean is None else signed(mean, 2), mean)] if shown else []
        body.append(tuple(cells))
    notes = [_SIGN, _about_means(shown), *_coverage(found, settings, names)]
    return Table(
        "patterns-by-tasks", "Patterns and tasks", tuple(columns), tuple(body), tuple(filter(None, notes)), keys=2
    )


_SIGN = "A difference is sparse - dense, paired by seed, in the unit at the head of its column; `-`: no record."


def _about_means(shown: bool) -> str:
    if not shown:
        return ""
    return (
        "The mean over the columns is of differences in units of the task's margin, turned so that positive is better "
        "and -1 is just as bad as was declared to matter; it has no interval and no verdict."
    )


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
    shown = f"{signed(found.difference, decimals(row.metric))} {found.in_words.replace(' ', NBSP)}"
    return Cell(
        shown, found.difference, found.verdict in (Verdict.BETTER, Verdict.WORSE), parts=(("verdict", row.words),)
    )


def _mean_in_margins(settings: Sequence[Setting], of: Mapping[Setting, Row]) -> float | None:
    """None unless every setting has the row, with a margin and equally many pairs."""
    rows = [of[setting] for setting in settings if setting in of]
    pairs = {row.pairs for row in rows}
    if len(rows) < len(settings) or len(pairs) > 1 or 0 in pairs or not all(row.metric.margin > 0 for row in rows):
        return None
    return statistics.fmean(
        (row.comparison.difference if row.metric.higher_is_better else -row.comparison.difference) / row.metric.margin
        for row in rows
        if row.comparison
    )


def _coverage(
    found: Mapping[Key, Mapping[Setting, Row]], settings: Sequence[Setting], names: Mapping[Setting, str]
) -> list[str]:
    """Why rows have no mean: what they miss, rows with the same gap in one sentence."""
    gaps: dict[str, list[Key]] = {}
    for key, of in found.items():
        if why := _gap(settings, of, names):
            gaps.setdefault(why, []).append(key)
    if len(gaps) == 1 and len(next(iter(gaps.values()))) == len(found) > 1:
        return [f"No mean over the columns for any row: {text(next(iter(gaps)))}."]
    rows = ((", ".join(f"{key[0]} {label(*key[1:])}" for key in keys), why) for why, keys in gaps.items())
    return [f"No mean over the columns for {text(which)}: {text(why)}." for which, why in rows]


def _gap(settings: Sequence[Setting], of: Mapping[Setting, Row], names: Mapping[Setting, str]) -> str:
    """In words, why there is no mean; "" where there is one."""
    missing = [names[one] for one in settings if one not in of or not of[one].pairs]
    if missing:
        return f"missing in {', '.join(missing)}"
    seeds = {names[one]: of[one].pairs for one in settings}
    if len(set(seeds.values())) > 1:
        return f"unequal seeds ({', '.join(f'{name} {count}' for name, count in seeds.items())})"
    without = [names[one] for one in settings if not of[one].metric.margin > 0]
    return f"no margin is declared in {', '.join(without)}" if without else ""


def methods_by_patterns(rows: Sequence[Row]) -> list[Table]:
    """One table a setting that has at least two patterns and two methods."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    names = titles(settings)
    found = (_by_patterns(place, names[one], [row for row in rows if row.setting == one])
             for place, one in enumerate(settings, start=1))  # fmt: skip
    return [table for table in found if table is not None]


def _by_patterns(place: int, name: str, rows: Sequence[Row]) -> Table | None:
    sparse = sorted((row for row in rows if not row.is_dense), key=lambda row: row.order)
    patterns = list(dict.fromkeys(row.pattern_text for row in sparse))
    # by method, the default settings first, as in every other table
    methods = sorted({(row.method, row.hyper) for row in sparse}, key=lambda key: (key[0], key[1] != "{}", key[1]))
    if len(patterns) < 2 or len(methods) < 2:
        return None
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
    return Table(f"methods-by-patterns-{place}", f"Methods and patterns: {name}", columns, body, notes)


def _dense(rows: Sequence[Row]) -> list[str]:
    """What the dense twin reaches, in words."""
    dense = next((row for row in rows if row.is_dense and row.seeds), None)
    values = [value for value in dense.values if math.isfinite(value)] if dense else []
    if dense is None or not values:
        return []
    digits = decimals(dense.metric)
    spread = f" (SD {number(statistics.stdev(values), digits)})" if len(values) > 1 else ""
    mean = f"{number(statistics.fmean(values), digits)} {dense.metric.unit}".rstrip()
    return [f"Dense: {text(mean)}{spread}, {plural(len(values), 'seed')}."]
