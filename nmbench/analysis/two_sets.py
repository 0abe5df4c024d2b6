"""Two result sets side by side: before and after a change, or from two machines.

Cells are matched by their id, which is a hash of everything that should decide their result: a cell of B is compared
with the same cell of A, seed by seed. A difference between them is then one of code, versions, machine or chance.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nmbench.analysis.origins import origins
from nmbench.analysis.pairs import Pairs, against, matched, primary
from nmbench.analysis.rows import Row, compare
from nmbench.analysis.statistics import Comparison
from nmbench.records.frame import Loaded, newest
from nmbench.records.schema import Record


class Fate(StrEnum):
    """What became of a row whose two sides need, or allow, no verdict."""

    SAME = "the same"
    MISSING_A = "missing in A"
    MISSING_B = "missing in B"
    FAILED_A = "failed in A"
    FAILED_B = "failed in B"
    FAILED = "failed in A and B"
    NOTHING = "nothing to compare"


@dataclass(frozen=True, eq=False)
class Change:
    """One (setting, pattern, method, hyper) in the two sets.

    first, second: its rows in A and B, None where a set does not have it.
    comparison: B - A over the seeds that ended well in both; None where there is no such seed.
    fate: None where the comparison's verdict counts; "the same" where every value is equal to the last digit.
    notes: in words, what kept cells from being compared.
    """

    first: Row | None
    second: Row | None
    comparison: Comparison | None
    fate: Fate | None
    notes: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        """The row of B, else that of A."""
        found = self.second or self.first
        assert found is not None
        return found

    @property
    def words(self) -> str:
        """Fate or verdict."""
        if self.fate is None and self.comparison is not None:
            return self.comparison.words
        return (self.fate or Fate.NOTHING).value

    @property
    def worse(self) -> bool:
        """Is B worse, by the margin or perhaps by less?"""
        return self.fate is None and self.comparison is not None and self.comparison.verdict.below


def between(first: Loaded, second: Loaded) -> list[Change]:
    """Every row of either set, in the order of a report: B's first, then those that only A has."""
    mine, theirs = (
        {(row.setting, row.pattern, row.method, row.hyper): row for row in compare(loaded.frame)}
        for loaded in (first, second)
    )
    return [_change(mine.get(key), theirs.get(key), first, second) for key in {**theirs, **mine}]


def _change(mine: Row | None, theirs: Row | None, first: Loaded, second: Loaded) -> Change:
    if mine is None or theirs is None:
        return Change(mine, theirs, None, Fate.MISSING_A if mine is None else Fate.MISSING_B)
    if not (mine.seeds and theirs.seeds):
        fate = Fate.FAILED_B if mine.seeds else Fate.FAILED_A if theirs.seeds else Fate.FAILED
        return Change(mine, theirs, None, fate)
    pairs = matched(theirs, mine, second, first).keep(lambda one, other: one.cell_id == other.cell_id)
    metric, margin = theirs.metric, min(theirs.metric.margin, mine.metric.margin)
    found = against(pairs, primary(theirs), metric.higher_is_better, margin)
    notes = tuple(_notes(mine, theirs, pairs))
    return Change(mine, theirs, found if found.n else None, _fate(found, pairs, theirs), notes)


def _fate(found: Comparison, pairs: Pairs[Record], row: Row) -> Fate | None:
    if not found.n:
        return Fate.NOTHING
    value = primary(row)
    same = all(value(one) == value(other) for one, other in zip(pairs.first, pairs.second, strict=True))
    return Fate.SAME if same else None


def _notes(mine: Row, theirs: Row, pairs: Pairs[Record]) -> list[str]:
    """What kept cells from being compared."""
    metric = theirs.metric.name
    seeds = {
        "the two saw different data": pairs.other_data,
        "not there in A, or failed": [seed for seed in theirs.seeds if seed not in mine.seeds],
        "not there in B, or failed": [seed for seed in mine.seeds if seed not in theirs.seeds],
        f"no finite {mine.metric.name} in A": [seed for seed in mine.seeds if seed not in _finite(mine)],
        f"no finite {metric} in B": [seed for seed in theirs.seeds if seed not in _finite(theirs)],
    }
    notes = [f"seed {', '.join(map(str, of))}: {why}" for why, of in seeds.items() if of]
    if not pairs.seeds and not pairs.other_data and set(mine.seeds) & set(theirs.seeds):
        notes.append("no cell of A has the id of one of B: they were not written by the same id scheme")
    if mine.metric.name != metric:
        notes.append(f"the primary metric is {metric} in B and {mine.metric.name} in A")
    return notes


def nothing_common(found: Sequence[Change]) -> bool:
    """Is there no row that both sets have?"""
    return not any(change.first and change.second for change in found)


def lost(found: Sequence[Change]) -> bool:
    """Is anything that A has worse, failed or missing in B, be it one seed, or without a finite value there?"""
    return any(change.worse or bool(_finite(change.first) - _finite(change.second)) for change in found)


def _finite(row: Row | None) -> set[int]:
    """The seeds that ended well with a finite primary value."""
    if row is None:
        return set()
    return {seed for seed, value in zip(row.seeds, row.values, strict=True) if math.isfinite(value)}


def surroundings(first: Loaded, second: Loaded) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """What the cells that count ran on, where A and B differ: key -> {value: cells} of both sides."""
    mine, theirs = (
        origins([loaded.records[place] for place in newest(loaded.frame).index]) for loaded in (first, second)
    )
    both = {key: (mine.get(key, Counter()), theirs.get(key, Counter())) for key in sorted({**mine, **theirs})}
    return {key: sides for key, sides in both.items() if set(sides[0]) != set(sides[1])}
