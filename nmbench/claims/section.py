"""What a report says of the seed paper's claims: `claims_sections`."""

from __future__ import annotations

from collections.abc import Sequence

from nmbench.analysis.pairs import LEAST
from nmbench.claims import Judgement, claims_tables, summary_table
from nmbench.document.model import Block, Prose, Section

__all__ = ["claims_sections"]

#: more comparisons stand behind the tasks, where they keep nobody from them
_MOST_ROWS = 12


def claims_sections(verdicts: Sequence[Judgement]) -> tuple[list[Section], list[Section]]:
    """(in front of the tasks, behind them). Claims that the records cannot decide take one line.

    Nothing where no record is about any claim.
    """
    judged = [verdict for verdict in verdicts if verdict.outcome != "no records"]
    if not judged:
        return [], []
    enough = {verdict.claim for verdict in judged if verdict.seeds >= LEAST}
    few = sorted({verdict.claim for verdict in judged} - enough)
    silent = sorted({verdict.claim for verdict in verdicts} - {verdict.claim for verdict in judged})
    shown = [verdict for verdict in judged if verdict.claim in enough]
    long = len(shown) > _MOST_ROWS
    content: list[Block] = []
    if shown:
        content.append(summary_table(shown))
        words = Prose("[Every comparison](#claims-by-comparison) stands behind the tasks.")
        content += [words] if long else claims_tables(shown)
    said = [f"Too few seeds to judge {', '.join(few)}: it takes {LEAST} at least."] if few else []
    said += [f"No record here is about {', '.join(silent)}."] if silent else []
    content += [Prose(" ".join(said))] if said else []
    behind = [Section("Claims by comparison", tuple(claims_tables(shown)))] if long else []
    return [Section("The seed paper's claims", tuple(content))], behind
