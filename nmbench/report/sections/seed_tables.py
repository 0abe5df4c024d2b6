"""What the seeds of a row can show, and, apart from it, what the evaluation examples say.

precision_table    p-value, its floor, and the smallest difference that would have been seen
examples_table     the difference over evaluation examples, which is not that over seeds
p_text             a p-value for people
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from nmbench.analysis.examples import Difference, Read, over_examples, per_example
from nmbench.analysis.pairs import decimals
from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.setting import titles
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, number, plural, signed, text
from nmbench.records.frame import Loaded

__all__ = ["examples_table", "p_text", "precision_table"]

_PRECISION = (
    "SD is the standard deviation of the paired differences. p is that of the paired t test; floor is the smallest "
    "p-value that an exact test (sign flips, Wilcoxon) of so many pairs can reach, whatever the data. Seen from: the "
    "true difference that so many seeds with this spread would have shown in four of five repetitions; nothing is "
    "known about a smaller one."
)
_EXAMPLES = (
    "Sparse - dense, averaged over the seeds first, with the 95 % interval of a paired bootstrap over evaluation "
    "examples: would other examples of the same kind say the same of these very models? It says nothing about other "
    "seeds, whose interval is another one; the two are not added up. Examples are taken as independent of each other."
)


def precision_table(rows: Sequence[Row]) -> Table | None:
    """One row a comparison with the dense twin; None where there is no pair at all."""
    shown = [row for row in rows if row.pairs]
    if not shown:
        return None
    names = titles(list(dict.fromkeys(row.setting for row in shown)))
    columns = (
        *_setting_column(names),
        Column("pattern", "Pattern"),
        Column("method", "Method"),
        Column("seeds", "Seeds", "r"),
        Column("sd", "SD", "r"),
        Column("p_value", "p", "r"),
        Column("p_floor", "p floor", "r"),
        Column("smallest_seen", "Seen from", "r"),
        Column("margin", "Margin", "r"),
    )
    body = tuple((*_setting_cell(names, row), *_precise(row)) for row in shown)
    return Table("precision", "What the seeds can show", columns, body, (_PRECISION,), keys=2 + (len(names) > 1))


def _precise(row: Row) -> tuple[Cell, ...]:
    found, metric = row.comparison, row.metric
    assert found is not None
    digits, unit = decimals(metric), f"{NBSP}{metric.unit}" if metric.unit else ""

    def measured(value: float | None) -> Cell:
        return Cell("-" if value is None else f"{number(value, digits)}{unit}", value)

    return (
        Cell(row.pattern_text),
        Cell(row.method_text),
        Cell(str(found.n), found.n),
        measured(found.sd),
        Cell("-" if found.p_value is None else p_text(found.p_value), found.p_value),
        Cell(p_text(found.p_floor), found.p_floor),
        measured(found.smallest_seen),
        Cell(f"{metric.margin:g}{unit}", metric.margin),
    )


def p_text(value: float) -> str:
    """Two digits, as 0.031; "< 0.001" below."""
    return f"<{NBSP}0.001" if value < 0.001 else f"{value:.2g}"


def examples_table(rows: Sequence[Row], loaded: Loaded) -> Table | None:
    """One row a value that a sparse row and its dense twin stored for every example; None where none did."""
    twins = {row.setting: row for row in rows if row.is_dense}
    readers = {setting: _reading(twin, loaded) for setting, twin in twins.items()}
    found = [
        (row, difference)
        for row in rows
        if not row.is_dense and row.setting in twins
        for difference in over_examples(row, twins[row.setting], loaded, readers[row.setting])
    ]
    if not found:
        return None
    names = titles(list(dict.fromkeys(row.setting for row, _ in found)))
    columns = (
        *_setting_column(names),
        Column("pattern", "Pattern"),
        Column("method", "Method"),
        Column("value", "Value"),
        Column("examples", "Examples", "r"),
        Column("seeds", "Seeds", "r"),
        Column("difference", "Difference [95 % over examples]", "r"),
    )
    body = tuple((*_setting_cell(names, row), *_over(row, difference)) for row, difference in found)
    notes = [_EXAMPLES] + [
        f"{text(f'{row.name}: {one.name}')} is not finite for {plural(one.left_out, 'example')}."
        for row, one in found
        if one.left_out
    ]
    notes += [
        f"{text(f'{row.name}: {one.name}')} is missing, broken or of another length "
        f"in seed {', '.join(map(str, one.without))}, which {'is' if len(one.without) == 1 else 'are'} left out."
        for row, one in found
        if one.without
    ]
    return Table("examples", "Over evaluation examples", columns, body, tuple(notes), keys=3 + (len(names) > 1))


def _reading(twin: Row, loaded: Loaded) -> Read:
    """Reads stored values; those of the dense twin, which every row asks for, once only."""
    kept, cached = {loaded.folders[place] for place in twin.records}, cache(per_example)
    return lambda folder: cached(folder) if folder in kept else per_example(folder)


def _over(row: Row, found: Difference) -> tuple[Cell, ...]:
    parts = tuple(zip(("low", "high"), found.interval, strict=True)) if found.interval else ()
    ends = f"{NBSP}[{signed(found.interval[0], 4)},{NBSP}{signed(found.interval[1], 4)}]" if found.interval else ""
    return (
        Cell(row.pattern_text),
        Cell(row.method_text),
        Cell(found.name),
        Cell(str(found.examples), found.examples),
        Cell(str(len(found.seeds)), len(found.seeds)),
        Cell(f"{signed(found.mean, 4)}{ends}", found.mean, parts=parts),
    )


def _setting_column(names: Mapping[Setting, str]) -> tuple[Column, ...]:
    return (Column("setting", "Setting"),) if len(names) > 1 else ()


def _setting_cell(names: Mapping[Setting, str], row: Row) -> tuple[Cell, ...]:
    return (Cell(names[row.setting]),) if len(names) > 1 else ()
