"""What a report says of the seed paper: `Claims` and `Published`, sections by the entry points `nmbench.sections`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nmbench.analysis.pairs import LEAST
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.claims import Judgement, claims_tables, judge, summary_table
from nmbench.claims.published import beside, published_table
from nmbench.document.model import Block, Fold, Prose, Section

__all__ = ["Claims", "Published", "claims_section"]

#: more comparisons fold away
_MOST_ROWS = 12


class Claims:
    """The seed paper's claims, as far as the records can decide them."""

    place, order = "front", 80

    def blocks(self, study: Study, rows: Sequence[Row]) -> Iterator[Section]:
        """Nothing where no record is about any claim."""
        verdicts = judge(study.loaded, rows)
        if any(verdict.outcome != "no records" for verdict in verdicts):
            yield claims_section(verdicts)


class Published:
    """Published figures beside ours, where the two may be compared at all."""

    place, order = "front", 90

    def blocks(self, study: Study, rows: Sequence[Row]) -> Iterator[Section]:
        """Nothing where no row is of what a published figure is about."""
        if shown := beside(rows, study.loaded.records):
            yield Section("Published figures", (published_table(shown),))


def claims_section(verdicts: Sequence[Judgement]) -> Section:
    """The comparisons by outcome, then each of them; claims that the records cannot decide take one line."""
    judged = [verdict for verdict in verdicts if verdict.outcome != "no records"]
    enough = {verdict.claim for verdict in judged if verdict.seeds >= LEAST}
    few = sorted({verdict.claim for verdict in judged} - enough)
    silent = sorted({verdict.claim for verdict in verdicts} - {verdict.claim for verdict in judged})
    shown = [verdict for verdict in judged if verdict.claim in enough]
    content: list[Block | Fold] = []
    if shown:
        every = tuple(claims_tables(shown))
        content += [summary_table(shown), *([Fold("Every comparison", every)] if len(shown) > _MOST_ROWS else every)]
    words = [f"Too few seeds to judge {', '.join(few)}: it takes {LEAST} at least."] if few else []
    words += [f"No record here is about {', '.join(silent)}."] if silent else []
    content += [Prose(" ".join(words))] if words else []
    return Section("The seed paper's claims", tuple(content))
