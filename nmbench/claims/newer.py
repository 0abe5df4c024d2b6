"""What the methods that came later claim against SR-STE, with the source, and whether these records show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nmbench.analysis.pairs import LEAST, against, decimals, matched, primary, with_words
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.claims.judgement import Outcome, better, not_worse
from nmbench.document.model import Section
from nmbench.document.table import Cell, Column, Table


@dataclass(frozen=True)
class Assertion:
    """One claim.

    within: "not worse" rather than "better". patterns: those that it is about; none: all. densest: likewise the largest
    share of weights that a pattern keeps.
    """

    method: str
    words: str
    figures: str
    source: str
    within: bool = False
    patterns: tuple[str, ...] = ()
    densest: float = 1.0

    def about(self, row: Row) -> bool:
        """Is it about the method and the pattern of `row`?"""
        if row.method != self.method or row.pattern is None or not row.seeds:
            return False
        return row.pattern.density <= self.densest and (not self.patterns or row.pattern_text in self.patterns)


_OWN = "SR-STE: README of aojunzz/NM-sparsity a557d6b"
ASSERTIONS = (
    Assertion(
        "decaying-mask",
        "better above 80 % sparsity",
        "up to 2 % (vision) and 5 % (language)",
        "Bambhaniya et al. 2024, abstract",
        densest=0.2,
    ),
    Assertion("step", "better under Adam", "-", "Lu et al. 2023, abstract"),
    Assertion("s-ste", "better in 2:4 pre-training", "-", "Hu et al. 2024 (S-STE), abstract", patterns=("2:4",)),
    Assertion("lbc", "better across networks", "-", "Zhang et al. 2022, abstract"),
    Assertion(
        "maxq",
        "better across networks",
        "ResNet-50, 1:16: 74.6 %, more than 2.8 above the best before",
        "Xiang et al. 2024, abstract",
    ),
    Assertion(
        "domino",
        "better than one N:M for all layers, at the same size",
        "ResNet-18, 87.5 % sparse: +2.1 %",
        "Sun et al. 2021, abstract",
    ),
    Assertion(
        "bi-mask",
        "on par or better",
        "ResNet-50, theirs / SR-STE: 2:4 77.4 / 77.0, 4:8 77.5 / 77.4, 2:8 76.3 / 76.4, 1:4 75.6 / 75.9",
        f"Zhang et al. 2023, abstract; README of zyxxmu/Bi-Mask e63cd37; {_OWN}",
        within=True,
    ),
)
_SEEN = {Outcome.PASS: "yes", Outcome.FAIL: "no", Outcome.UNDECIDED: "undecided"}
_SAID = (
    Column("method", "Method"),
    Column("claim", "Claim against SR-STE"),
    Column("figures", "Their figures"),
    Column("source", "Source"),
)
_JUDGED = (
    Column("method", "Method"),
    Column("where", "Here"),
    Column("seen", "Seen here"),
    Column("difference", "Difference to SR-STE [95 %]"),
)
_NOTE = (
    "Seen here: the 95 % interval of the paired difference to SR-STE on equal seeds lies above 0 (for *on par*: above "
    "minus the task's margin); no: it lies on the other side; else undecided, as with fewer than "
    f"{LEAST} seeds. Where a matrix has SR-STE with several settings, the one with the most seeds stands for it, the "
    "first of equals. Their figures are of other models, data and lengths of training."
)


class Newer:
    """Claims of newer methods against SR-STE."""

    place, order = "front", 85

    def blocks(self, study: Study, rows: Sequence[Row]) -> Iterator[Section]:
        """Nothing where no record is about any of them."""
        judged = {one: [cells for row in rows for cells in _judged(study, rows, one, row)] for one in ASSERTIONS}
        if body := tuple(cells for own in judged.values() for cells in own):
            said = tuple(
                (Cell(one.method), Cell(one.words), Cell(one.figures), Cell(one.source))
                for one in judged
                if judged[one]
            )
            tables = (
                Table("newer-claims", "What they say", _SAID, said),
                Table("newer-claims-here", "What these records say", _JUDGED, body, (_NOTE,), keys=2),
            )
            yield Section("What newer methods claim against SR-STE", tables)


def reference(rows: Sequence[Row], row: Row) -> Row | None:
    """SR-STE in the row's setting at its pattern."""
    found = [one for one in rows if (one.setting, one.pattern, one.method) == (row.setting, row.pattern, "sr-ste")]
    return max((one for one in found if one.seeds), key=lambda one: len(one.seeds), default=None)


def _judged(study: Study, rows: Sequence[Row], said: Assertion, row: Row) -> Iterator[tuple[Cell, ...]]:
    other = reference(rows, row) if said.about(row) else None
    if other is None:
        return
    metric = row.metric
    margin = metric.margin if said.within else 0.0
    found = against(matched(row, other, study.loaded), primary(row), metric.higher_is_better, margin)
    outcome = not_worse(found) if said.within else better(found)
    yield (
        Cell(row.method_text),
        Cell(f"{study.titles[row.setting]}, {row.pattern}"),
        Cell(_SEEN[outcome], strong=outcome is not Outcome.UNDECIDED),
        Cell(with_words(found, metric.unit, decimals(metric)), found.difference if found.n else None),
    )
