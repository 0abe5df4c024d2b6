"""The leaderboard: methods ranked within a setting and a pattern, on equal seeds. `leaderboard`, block of the front.

Methods stand by their means. One that the seeds do not tell apart from the best method of a rank shares it: the 95 %
interval of their paired difference on equal seeds does not lie on one side of 0. Fewer than three seeds rank nothing.
"""

import statistics
from collections.abc import Iterator, Sequence

from nmbench._util.groups import grouped
from nmbench.analysis.pairs import LEAST, against, decimals, in_short, matched, primary
from nmbench.analysis.rows import Row
from nmbench.analysis.setting import Setting
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.study import Study
from nmbench.analysis.verdict import Verdict
from nmbench.document.model import Block, Fold, Prose, Section
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural
from nmbench.report.sections.quality import finite

#: a longer table folds away
_MOST_ROWS = 24
_NOTE = (
    "Methods of one rank are not told apart from its best one, named first: the 95 % interval of their paired "
    "difference, on equal seeds, holds 0. Behind the first: the difference of the best method of a rank to the best "
    f"one of all. No correction is made for the number of methods; fewer than {LEAST} seeds rank nothing."
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
    columns = (
        Column("setting", "Setting"),
        Column("pattern", "Pattern"),
        Column("rank", "Rank", "r"),
        Column("method", "Method"),
        Column("seeds", "Seeds", "r"),
        Column("behind", "Behind the first [95 %]", "r"),
    )
    table = Table("leaderboard", "Leaderboard", columns, tuple(body), (_NOTE,), keys=2, sortable=False)
    content: Block | Fold = Fold("All ranks", (table,)) if len(body) > _MOST_ROWS else table
    yield Section("Leaderboard", (content,))


def _groups(rows: Sequence[Row]) -> dict[tuple[Setting, str], Sequence[Row]]:
    """The rows of each setting and pattern where there are two to rank."""
    found = grouped(((row.setting, row.pattern_text), row) for row in rows if not row.is_dense and finite(row))
    return {key: own for key, own in found.items() if len(own) > 1}


def ranked(study: Study, rows: Sequence[Row]) -> list[tuple[int, list[Row]]]:
    """The rows of one setting and pattern with `LEAST` seeds at least, by rank, the best one first in each."""
    sign = -1 if rows[0].metric.higher_is_better else 1
    enough = [row for row in rows if len(finite(row)) >= LEAST]
    groups: list[tuple[int, list[Row]]] = []
    for place, row in enumerate(sorted(enough, key=lambda row: sign * statistics.fmean(finite(row))), start=1):
        if groups and not _better(study, groups[-1][1][0], row):
            groups[-1][1].append(row)
        else:
            groups.append((place, [row]))
    return groups


def _better(study: Study, row: Row, other: Row) -> bool:
    """Is `row` certainly better than `other`?"""
    found = _difference(study, row, other)
    return found.n >= LEAST and found.verdict is Verdict.BETTER


def _difference(study: Study, row: Row, other: Row) -> Comparison:
    return against(matched(row, other, study.loaded), primary(row), row.metric.higher_is_better)


def _cells(study: Study, key: tuple[Setting, str], rows: Sequence[Row]) -> Iterator[tuple[Cell, ...]]:
    names, metric = (study.titles[rows[0].setting], key[1]), rows[0].metric
    groups = ranked(study, rows)
    if sum(len(own) for _, own in groups) < 2:
        groups = []
    for rank, own in groups:
        seeds = sorted({len(finite(row)) for row in own})
        gap = None if rank == 1 else _difference(study, own[0], groups[0][1][0])
        yield (
            *map(Cell, names),
            Cell(str(rank), rank),
            Cell(", ".join(row.label for row in own)),
            Cell("-".join(map(str, dict.fromkeys([seeds[0], seeds[-1]]))), seeds[0]),
            Cell(in_short(gap, metric.unit, decimals(metric)), gap.difference) if gap else Cell("-"),
        )
    rest = [row for row in rows if not groups or len(finite(row)) < LEAST]
    if rest:
        most = max(len(finite(row)) for row in rest)
        yield (
            *map(Cell, names),
            Cell("not ranked"),
            Cell(", ".join(row.label for row in rest)),
            Cell(plural(most, "seed") if most < LEAST else str(most), most),
            Cell("-"),
        )
