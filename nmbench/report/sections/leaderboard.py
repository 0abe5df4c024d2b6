"""The leaderboard: methods ranked within a setting and a pattern, on equal seeds. `leaderboard`, block of the front.

ranked      rows -> [(rank, row)], best first
A rank is one more than the number of methods that are certainly better: their paired difference on equal seeds has a
95 % interval on one side of 0. Methods that the seeds do not tell apart share a rank. Fewer than three seeds rank nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from nmbench.analysis.pairs import LEAST, against, decimals, in_short, matched
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Fold, Prose, Section
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural
from nmbench.records.schema import Record
from nmbench.report.sections.quality import finite

__all__ = ["leaderboard", "ranked"]

#: a longer table folds away
_MOST_ROWS = 15
_NOTE = (
    "A rank is one more than the number of methods that are certainly better, by the 95 % interval of the paired "
    "difference on equal seeds; methods of one rank are not told apart by their seeds. Behind the first: the difference "
    "of the best method of a rank to the best one of all. Methods and settings are ranked as they are, with no "
    f"correction for their number. Fewer than {LEAST} seeds rank nothing."
)


def leaderboard(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """One row a rank; what has too few seeds is named, not ranked."""
    body = [cells for key, own in _groups(rows).items() for cells in _cells(study, key, own)]
    if not body:
        return
    if not any(cells[2].value for cells in body):
        words = f"Nothing is ranked: it takes {LEAST} seeds of two methods at one pattern of one task."
        yield Section("Leaderboard", (Prose(words),))
        return
    several = len({cells[0].text for cells in body}) > 1
    columns = (
        Column("setting", "Setting"),
        Column("pattern", "Pattern"),
        Column("rank", "Rank", "r"),
        Column("method", "Method"),
        Column("seeds", "Seeds", "r"),
        Column("behind", "Behind the first [95 %]", "r"),
    )
    first = 0 if several else 1
    table = Table(
        "leaderboard",
        "Leaderboard",
        columns[first:],
        tuple(cells[first:] for cells in body),
        (_NOTE,),
        keys=2 - first,
        sortable=False,
    )
    content: Block | Fold = Fold("All ranks", (table,)) if len(body) > _MOST_ROWS else table
    yield Section("Leaderboard", (content,))


def _groups(rows: Sequence[Row]) -> dict[tuple[object, str], list[Row]]:
    """The rows of each setting and pattern where there are two to rank."""
    found: dict[tuple[object, str], list[Row]] = {}
    for row in rows:
        if not row.dense and finite(row):
            found.setdefault((row.setting, str(row.pattern)), []).append(row)
    return {key: own for key, own in found.items() if len(own) > 1}


def ranked(study: Study, rows: Sequence[Row]) -> list[tuple[int, Row]]:
    """The rows of one setting and pattern with `LEAST` seeds at least, by rank and then by their means."""
    enough = [row for row in rows if len(finite(row)) >= LEAST]
    sign = -1 if rows[0].metric.higher_is_better else 1
    ranks = [(1 + sum(_better(study, other, row) for other in enough if other is not row), row) for row in enough]
    return sorted(ranks, key=lambda one: (one[0], sign * statistics.fmean(finite(one[1]))))


def _better(study: Study, row: Row, other: Row) -> bool:
    """Is `row` certainly better than `other`?"""
    found = _difference(study, row, other)
    if found.n < LEAST or found.interval is None:
        return False
    low, high = found.interval
    return low > 0 if row.metric.higher_is_better else high < 0


def _difference(study: Study, row: Row, other: Row) -> Comparison:
    def value(record: Record) -> float | None:
        return (record.get("metrics") or {}).get(row.metric.name)

    return against(matched(row, other, study.loaded), value, row.metric.higher_is_better)


def _cells(study: Study, key: tuple[object, str], rows: Sequence[Row]) -> Iterator[tuple[Cell, ...]]:
    places = ranked(study, rows)
    shown = len(places) > 1
    groups: dict[int, list[Row]] = {}
    for rank, row in places if shown else ():
        groups.setdefault(rank, []).append(row)
    names = study.titles[rows[0].setting], key[1]
    for rank, own in groups.items():
        seeds = sorted({len(finite(row)) for row in own})
        gap = None if rank == 1 else _difference(study, own[0], places[0][1])
        yield (
            *map(Cell, names),
            Cell(str(rank), rank),
            Cell(", ".join(row.label for row in own)),
            Cell("-".join(map(str, dict.fromkeys([seeds[0], seeds[-1]]))), seeds[0]),
            Cell(in_short(gap, rows[0].metric.unit, decimals(rows[0].metric)) if gap else "-", gap and gap.difference),
        )
    rest = [row for row in rows if not shown or len(finite(row)) < LEAST]
    if rest:
        most = max(len(finite(row)) for row in rest)
        yield (
            *map(Cell, names),
            Cell("not ranked"),
            Cell(", ".join(row.label for row in rest)),
            Cell(plural(most, "seed") if most < LEAST else str(most), most),
            Cell("-"),
        )
