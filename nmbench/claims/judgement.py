"""What a judge of a claim hands back, and the claims' own words.

CLAIMS      C1 ... C9: the seed paper's claim in one sentence
Judgement   one claim judged on one set of records
outcome     a paired comparison as pass, fail or undecided, for a claim that one side is better
not_worse   the same for a claim that one side is not worse by the margin
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nmbench.analysis.pairs import LEAST
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.verdict import Verdict

__all__ = ["CLAIMS", "Judgement", "Outcome", "not_worse", "outcome", "scope"]

Outcome = Literal["pass", "fail", "undecided", "no records"]

CLAIMS = {
    "C1": "At equal steps the masks of SR-STE change less (SAD) than those of STE, in total and in every layer.",
    "C2": "lambda_w > 0 helps; a negative one raises SAD and hurts; a very large one freezes the mask.",
    "C3": "The mask flips of each step fall through training.",
    "C4": "At 2:4, SR-STE is not worse than dense and better than STE.",
    "C5": "At equal density a larger M is better (4:8 over 2:4, 2:8 over 1:4).",
    "C6": "SR-STE in one pass is not worse than ASP at twice the cost.",
    "C7": "What holds in classification (C4) holds in detection, segmentation, flow and translation.",
    "C8": "2:4 speeds up inference of the whole network.",
    "C9": "The extra training cost is negligible.",
}


@dataclass(frozen=True)
class Judgement:
    """One claim, or one part of it, judged on the records of one scope.

    Attributes:
        claim: "C1" ... "C9".
        text: the part that was judged, as a statement that is true where the outcome is "pass".
        outcome: "undecided" also means that fewer than three seeds may be compared.
        figures: in words, with the numbers that say so.
        scope: task, model, pattern and method; "" where there are no records.
        seeds: seeds that both sides have.
    """

    claim: str
    text: str
    outcome: Outcome
    figures: str
    scope: str = ""
    seeds: int = 0


def outcome(found: Comparison) -> Outcome:
    """Is the first side better? Values that are equal in every pair say no. Fewer than three seeds decide nothing."""
    if found.n < LEAST:
        return "undecided"
    if found.verdict is Verdict.BETTER:
        return "pass"
    return "fail" if found.verdict.below or found.interval == (0.0, 0.0) else "undecided"


def not_worse(found: Comparison) -> Outcome:
    """Is the first side not worse by the margin that `found` was compared with?

    A side that is worse, but perhaps by less than was declared to matter, is undecided. Fewer than three seeds decide
    nothing.
    """
    if found.n < LEAST:
        return "undecided"
    if found.verdict in (Verdict.BETTER, Verdict.NOT_WORSE):
        return "pass"
    return "fail" if found.verdict is Verdict.WORSE else "undecided"


def scope(row: Row) -> str:
    """Where a judgement holds: task, model, scale, pattern and method with its settings."""
    return f"{row.setting}, {row.name}"
