"""What a judge of a claim hands back, and the claims' own words."""

from dataclasses import dataclass
from enum import StrEnum

from nmbench.analysis.pairs import LEAST
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.verdict import Verdict

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


class Outcome(StrEnum):
    """Of a claim on some records; undecided also means that fewer than `LEAST` seeds may be compared."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Judgement:
    """One claim, or one part of it, judged on the records of one row.

    Attributes:
        claim: "C1" ... "C9".
        text: the part that was judged, as a statement that is true where the outcome is "pass".
        figures: in words, with the numbers that say so.
        row: whose records were judged.
        seeds: seeds that both sides have.
    """

    claim: str
    text: str
    outcome: Outcome
    figures: str
    row: Row
    seeds: int


def better(found: Comparison) -> Outcome:
    """Is the first side better? Values that are equal in every pair say no. Fewer than three seeds decide nothing."""
    if found.n < LEAST:
        return Outcome.UNDECIDED
    if found.verdict is Verdict.BETTER:
        return Outcome.PASS
    return Outcome.FAIL if found.verdict.below or found.interval == (0.0, 0.0) else Outcome.UNDECIDED


def not_worse(found: Comparison) -> Outcome:
    """Is the first side not worse by the margin that `found` was compared with?

    A side that is worse, but perhaps by less than was declared to matter, is undecided. Fewer than three seeds decide
    nothing.
    """
    if found.n < LEAST:
        return Outcome.UNDECIDED
    if found.verdict in (Verdict.BETTER, Verdict.NOT_WORSE):
        return Outcome.PASS
    return Outcome.FAIL if found.verdict is Verdict.WORSE else Outcome.UNDECIDED
