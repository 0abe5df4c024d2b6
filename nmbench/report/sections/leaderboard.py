"""The leaderboard: methods ranked within a setting and a pattern, on equal seeds. `leaderboard`, block of the front.

Methods stand by their means. One that the seeds do not tell apart from the best method of a rank shares it: the 95 %
interval of their paired difference on equal seeds does not lie on one side of 0. Fewer than three seeds rank nothing.
Beside each method stands what its training costs.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from nmbench._util.groups import grouped
from nmbench.analysis.pairs import LEAST, against, decimals, in_short, matched, primary
from nmbench.analysis.rows import Row
from nmbench.analysis.setting import Setting
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.study import Study
from nmbench.analysis.verdict import Verdict
from nmbench.document.model import Fold, Prose, Section
from nmbench.document.table import Cell, Column, Table, filled, numeric
from nmbench.document.words import binary, plural
from nmbench.report.sections.quality import finite

#: a longer table becomes one for each pattern; of these, a longer one folds away
_MOST_ROWS = 24
_NOTE = (
    "Methods of one rank are not told apart from its best one, which stands first: the 95 % interval of their paired "
    "difference, on equal seeds, holds 0. Behind the first: the difference to the best method of all. No correction is "
    f"made for the number of methods; fewer than {LEAST} seeds rank nothing."
)
_COLUMNS = (
    Column("setting", "Setting"),
    Column("pattern", "Pattern"),
    Column("rank", "Rank", "r"),
    Column("method", "Method"),
    Column("seeds", "Seeds", "r"),
    Column("behind", "Behind the first [95 %]", "r"),
    Column("step", "Step", "r"),
    Column("passes", "Passes", "r"),
    Column("state", "State", "r"),
)
_COST_NOTES = {
    "step": "Step: median time of an optimizer step over the dense twin's, mean over the seeds of which both had the "
    "machine to themselves and ran in one go on the same hardware.",
    "passes": "Passes: how often the full schedule is trained, that of the dense twin included where it is taken over "
    "or learnt from.",
    "state": "State: the most that the method keeps in training beside weights, gradients and the optimizer's own.",
}


def leaderboard(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """One row a method; what has too few seeds stands below, not ranked."""
    body = [cells for key, own in _groups(rows).items() for cells in _cells(study, key, own)]
    if not body:
        return
    if not any(cells[2].value for cells in body):
        words = f"Nothing is ranked: it takes {LEAST} seeds of two methods at one pattern of one task."
        yield Section("Leaderboard", (Prose(words),))
        return
    if len(body) <= _MOST_ROWS:
        yield Section("Leaderboard", (_table("Leaderboard", body),))
        return
    patterns = grouped((cells[1].text, cells) for cells in body)
    tables = [_table(f"Leaderboard at {pattern}", own) for pattern, own in patterns.items()]
    content = (table if len(table.rows) <= _MOST_ROWS else Fold(table.title, (table,)) for table in tables)
    yield Section("Leaderboard", tuple(content))


def _table(title: str, body: Sequence[tuple[Cell, ...]]) -> Table:
    """Without the columns of cost that no row has; the notes say what those are that it has."""
    kept = filled(Table("leaderboard", title, _COLUMNS, tuple(body), keys=6, sortable=False))
    costs = [_COST_NOTES[column.key] for column in kept.columns if column.key in _COST_NOTES]
    return replace(kept, notes=(_NOTE, *costs), keys=2)


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
        for row in own:
            seeds = len(finite(row))
            first = groups[0][1][0]
            gap = Cell("-")
            if row is not first:
                found = _difference(study, row, first)
                gap = Cell(in_short(found, metric.unit, decimals(metric)), found.difference)
            ranking = Cell(str(rank), rank), Cell(row.label), Cell(str(seeds), seeds), gap
            yield (*map(Cell, names), *ranking, *_cost(study, row))
    for row in rows:
        if not groups or len(finite(row)) < LEAST:
            seeds = len(finite(row))
            words = plural(seeds, "seed") if seeds < LEAST else str(seeds)
            ranking = Cell("not ranked"), Cell(row.label), Cell(words, seeds), Cell("-")
            yield (*map(Cell, names), *ranking, *_cost(study, row))


def _cost(study: Study, row: Row) -> tuple[Cell, Cell, Cell]:
    """Step, passes, state."""
    return (
        numeric(row.step_ratio, "{:.2f}×".format),
        numeric(row.means.get("training_passes"), "{:g}".format),
        numeric(row.means.get("method_bytes"), binary),
    )
