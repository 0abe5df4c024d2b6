"""Two result sets side by side: before and after a change, or from two machines.

between      Loaded A, Loaded B -> one Change for every row that either has
Change       what became of it
surroundings where the two differ in versions, hardware or data
nothing_common, lost    what the command's exit status says
page         everything as markdown

Cells are matched by their id, which is a hash of everything that should decide their result: a cell of B is compared
with the same cell of A, seed by seed. A difference between them is then one of code, versions, machine or chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nmbench.analysis.pairs import Matched, Value, against, decimals, in_short, matched
from nmbench.analysis.rows import Row, Setting, compare
from nmbench.analysis.statistics import Comparison
from nmbench.claims.quality import metric_of
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import label, plural, table, text
from nmbench.records.frame import Loaded, newest
from nmbench.report.sections.origins import origins
from nmbench.report.sections.summary import describe

__all__ = ["Change", "between", "changes", "lost", "nothing_common", "page", "surroundings"]

Key = tuple[Setting, str, str, str]
#: rows that a note names
_NAMED = 6
#: verdicts in the order in which they are counted
_ORDER = (
    "worse",
    "better",
    "not worse",
    "the same",
    "undecided",
    "undecided (1 seed)",
    "missing in A",
    "missing in B",
    "failed in A",
    "failed in B",
)


@dataclass(frozen=True, eq=False)
class Change:
    """One (setting, pattern, method, hyper) in the two sets.

    first, second: its rows in A and B, None where a set does not have it.
    comparison: B - A over the seeds that ended well in both; None where there is no such seed.
    verdict: that of the comparison; "the same" where every value is equal to the last digit; or "missing in A",
        "failed in B" and so on.
    notes: in words, what kept cells from being compared.
    """

    first: Row | None
    second: Row | None
    comparison: Comparison | None
    verdict: str
    notes: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        """The row of B, else that of A."""
        found = self.second or self.first
        assert found is not None
        return found


def between(first: Loaded, second: Loaded) -> list[Change]:
    """Every row of either set, in the order of a report: B's first, then those that only A has."""
    mine, theirs = ({_key(row): row for row in compare(loaded.frame)} for loaded in (first, second))
    return [_change(mine.get(key), theirs.get(key), first, second) for key in {**theirs, **mine}]


def _key(row: Row) -> Key:
    return row.setting, row.pattern, row.method, row.hyper


def _change(mine: Row | None, theirs: Row | None, first: Loaded, second: Loaded) -> Change:
    if mine is None or theirs is None:
        return Change(mine, theirs, None, f"missing in {'A' if mine is None else 'B'}")
    if not (mine.seeds and theirs.seeds):
        sides = [name for name, row in (("A", mine), ("B", theirs)) if not row.seeds]
        return Change(mine, theirs, None, f"failed in {' and '.join(sides)}")
    pairs = matched(theirs, mine, second, first).keep(lambda one, other: one["cell_id"] == other["cell_id"])
    metric = theirs.metric
    found = against(pairs, metric_of(theirs), metric.higher_is_better, min(metric.margin, mine.metric.margin))
    notes = [f"seed {_list(pairs.other_data)}: the two saw different data"] if pairs.other_data else []
    notes += [f"seed {_list(seeds)}: not there in {side}, or failed" for side, seeds in _gaps(mine, theirs) if seeds]
    for side, row in (("A", mine), ("B", theirs)):
        if without := [seed for seed in row.seeds if seed not in _finite(row)]:
            notes.append(f"seed {_list(without)}: no finite {row.metric.name} in {side}")
    if not pairs.seeds and not pairs.other_data and set(mine.seeds) & set(theirs.seeds):
        notes.append("no cell of A has the id of one of B: they were not written by the same id scheme")
    if mine.metric.name != metric.name:
        notes.append(f"the primary metric is {metric.name} in B and {mine.metric.name} in A")
    return Change(mine, theirs, found if found.n else None, _verdict(found, pairs, metric_of(theirs)), tuple(notes))


def _verdict(found: Comparison, pairs: Matched, value: Value) -> str:
    """The comparison's, if there is one and not every value came out again to the last digit."""
    if not found.n:
        return "nothing to compare"
    same = all(value(one) == value(other) for one, other in zip(pairs.first, pairs.second, strict=True))
    return "the same" if same else found.verdict


def _gaps(mine: Row, theirs: Row) -> list[tuple[str, list[int]]]:
    return [
        ("A", [seed for seed in theirs.seeds if seed not in mine.seeds]),
        ("B", [seed for seed in mine.seeds if seed not in theirs.seeds]),
    ]


def nothing_common(found: Sequence[Change]) -> bool:
    """Is there no row that both sets have?"""
    return not any(change.first and change.second for change in found)


def lost(found: Sequence[Change]) -> bool:
    """Is anything that A has worse, failed or missing in B, be it one seed, or without a finite value there?"""
    return any(change.verdict == "worse" or bool(_finite(change.first) - _finite(change.second)) for change in found)


def _finite(row: Row | None) -> set[int]:
    """The seeds that ended well with a finite primary value."""
    if row is None:
        return set()
    return {seed for seed, value in zip(row.seeds, row.values, strict=True) if math.isfinite(value)}


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def surroundings(first: Loaded, second: Loaded) -> Table:
    """What the cells that count ran on, where A and B differ; each value with its cells, if there are several."""
    mine, theirs = (
        origins([loaded.records[place] for place in newest(loaded.frame).index]) for loaded in (first, second)
    )
    differing = [key for key in {**mine, **theirs} if set(mine.get(key, ())) != set(theirs.get(key, ()))]
    rows = tuple((Cell(key), Cell(_values(mine.get(key))), Cell(_values(theirs.get(key)))) for key in sorted(differing))
    columns = (Column("what", "What"), Column("a", "A"), Column("b", "B"))
    return Table("surroundings", "Where the two differ", columns, rows)


def _values(counts: Counter[str] | None) -> str:
    if not counts:
        return "-"
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({plural(count, 'cell')})" for value, count in sorted(counts.items()))


def changes(found: Sequence[Change], name: str = "changes", title: str = "B against A") -> Table:
    """One row a change; the difference is B - A."""
    columns = (
        Column("pattern", "Pattern"),
        Column("method", "Method"),
        Column("seeds", "Seeds", "r"),
        Column("metric", "Metric"),
        Column("difference", "B - A [95 %]", "r"),
        Column("verdict", "Verdict"),
    )
    return Table(name, title, columns, tuple(_cells(change) for change in found))


def _cells(change: Change) -> tuple[Cell, ...]:
    row, found = change.row, change.comparison
    metric = f"{row.metric.name} {'↑' if row.metric.higher_is_better else '↓'}" if row.metric.name else "-"
    return (
        Cell(row.pattern),
        Cell(label(row.method, row.hyper)),
        Cell(str(found.n) if found else "-", found.n if found else None),
        Cell(metric),
        Cell(
            in_short(found, row.metric.unit, decimals(row.metric)) if found else "-",
            found.difference if found else None,
        ),
        Cell(change.verdict, strong=change.verdict in ("better", "worse")),
    )


def page(first: Loaded, second: Loaded, names: tuple[str, str], found: Sequence[Change] | None = None) -> str:
    """Markdown: how the two sets differ as a whole, then every setting with its rows. Ends with a line feed.

    `found` is what `between` gave, if it was asked already.
    """
    found = between(first, second) if found is None else found
    parts = [
        f"# {text(names[0])} (A) and {text(names[1])} (B)",
        _counted(found),
        *(_missing(loaded, side) for loaded, side in ((first, "A"), (second, "B"))),
        _origins(first, second),
    ]
    for setting in dict.fromkeys(change.row.setting for change in found):
        own = [change for change in found if change.row.setting == setting]
        parts += [f"## {text(setting.task)}: {describe(setting)}", _markdown(changes(own)), _remarks(own)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _counted(found: Sequence[Change]) -> str:
    if not found:
        return "Neither set has a readable record."
    counts = Counter(change.verdict for change in found)
    order = sorted(counts, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    said = ", ".join(f"{counts[name]} {name}" for name in order)
    return (
        f"Over {plural(len(found), 'combination')} of setting, pattern and method, B against A: {said}. "
        "Seeds are paired; the verdict is read off the 95 % interval against the task's margin, and no correction is "
        "made for the number of rows."
    )


def _missing(loaded: Loaded, side: str) -> str:
    """What of a set is not in the tables."""
    lines = [f"{plural(len(loaded.unreadable), 'record')} of {side} could not be read:"] if loaded.unreadable else []
    lines += [f"- {text(one.path)}: {text(one.reason)}" for one in loaded.unreadable]
    if not len(loaded.frame):
        lines.append(f"{side} has no readable record.")
    return "\n".join(lines)


def _origins(first: Loaded, second: Loaded) -> str:
    differing = surroundings(first, second)
    if not differing.rows:
        return "Versions, hardware and data are the same in both."
    return "Where the two differ, which may be why results do:\n\n" + _markdown(differing)


def _markdown(shown: Table) -> str:
    def cell(one: Cell) -> str:
        return f"**{text(one.text)}**" if one.strong else text(one.text)

    body = [[cell(one) for one in row] for row in shown.rows]
    return table([text(column.title) for column in shown.columns], body, "".join(c.align for c in shown.columns))


def _remarks(found: Sequence[Change]) -> str:
    """The notes of the rows of one setting, each once, with the rows that it is about."""
    rows: dict[str, list[str]] = {}
    for change in found:
        for note in change.notes:
            rows.setdefault(note, []).append(f"{change.row.pattern} {label(change.row.method, change.row.hyper)}")
    return "\n".join(f"- {text(_some(names, len(found)))}: {text(note)}." for note, names in rows.items())


def _some(names: Sequence[str], total: int) -> str:
    if len(names) == total > 1:
        return "all rows"
    more = len(names) - _NAMED
    return f"{', '.join(names[:_NAMED])} and {more} more" if more > 1 else ", ".join(names)
