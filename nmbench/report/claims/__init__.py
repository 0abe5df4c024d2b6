"""The seed paper's claims, judged from records.

judge           records and rows -> verdicts, every claim at least once
claims_table    the verdicts as a table of the report
prose           one sentence a claim
CLAIMS, Verdict

A verdict is about the records that were given: short schedules on small data may refute what full ones confirm, and the
other way round. No row is picked by its result; every lambda_w of a sweep is judged by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nmbench.report.claims.cost import faster, negligible
from nmbench.report.claims.decay import decay
from nmbench.report.claims.flips import less_divergence, settling
from nmbench.report.claims.quality import larger_m, one_pass, two_four
from nmbench.report.claims.shrinkage import NOTE, SUM
from nmbench.report.claims.verdict import CLAIMS, Outcome, Verdict
from nmbench.report.compare import Row, Setting
from nmbench.report.evidence import LEAST
from nmbench.report.frame import Loaded
from nmbench.report.table import Cell, Column, Table
from nmbench.report.words import plural

__all__ = ["CLAIMS", "Verdict", "claims_table", "judge", "prose"]

_JUDGES = (less_divergence, decay, settling, two_four, larger_m, one_pass, faster, negligible)
_NEEDED = {
    "C1": "STE and SR-STE at one pattern, with the flips counted over the same steps",
    "C2": "STE, and SR-STE with several lambda_w, at one pattern",
    "C3": "STE or SR-STE with its flips counted",
    "C4": "classification at 2:4: dense, STE and SR-STE",
    "C5": "one method at 4:8 and 2:4, or at 2:8 and 1:4",
    "C6": "ASP and SR-STE at one pattern",
    "C7": "another task than classification at 2:4: dense, STE and SR-STE",
    "C8": "2:4 cells whose speed was measured",
    "C9": "dense or STE and SR-STE, each with the machine to itself",
}
_COLUMNS = (
    Column("claim", "Claim"),
    Column("text", "Statement"),
    Column("scope", "Where"),
    Column("outcome", "Outcome"),
    Column("seeds", "Seeds", "r"),
    Column("figures", "Figures"),
)


def judge(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """Every verdict that the records allow, by claim; a claim that none of them is about is "no records", in words."""
    settings: dict[Setting, list[Row]] = {}
    for row in rows:
        settings.setdefault(row.setting, []).append(row)
    found = [verdict for own in settings.values() for one in _JUDGES for verdict in one(loaded, own)]
    judged = {verdict.claim for verdict in found}
    found += [
        Verdict(claim, text, "no records", f"it takes {_NEEDED[claim]}")
        for claim, text in CLAIMS.items()
        if claim not in judged
    ]
    return sorted(found, key=lambda verdict: verdict.claim)


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a verdict; pass and fail are strong."""
    notes = (
        "A difference is that of the two means, paired by seed, with its 95 % interval; the outcome is read off the "
        f"interval. Fewer than {LEAST} seeds decide nothing. No correction is made for the number of rows.",
        'After "seen from": the true difference that so many seeds with this spread would have shown in four of five '
        "repetitions.",
        *([NOTE] if any(SUM in verdict.figures for verdict in verdicts) else []),
    )
    return Table("claims", "The claims of the seed paper", _COLUMNS, tuple(_cells(one) for one in verdicts), notes)


def prose(verdicts: Sequence[Verdict]) -> list[str]:
    """ "C1. <the claim> Pass in 4, undecided in 2 of 6 comparisons.", one a claim, as plain text."""
    return [f"{claim}. {text} {_summed(claim, verdicts)}" for claim, text in CLAIMS.items()]


def _cells(verdict: Verdict) -> tuple[Cell, ...]:
    decided = verdict.outcome in ("pass", "fail")
    return (
        Cell(verdict.claim),
        Cell(verdict.text),
        Cell(verdict.scope or "-"),
        Cell(verdict.outcome, strong=decided),
        Cell(str(verdict.seeds) if verdict.seeds else "-", verdict.seeds),
        Cell(verdict.figures),
    )


def _summed(claim: str, verdicts: Sequence[Verdict]) -> str:
    own = [verdict for verdict in verdicts if verdict.claim == claim]
    counts = Counter[Outcome](verdict.outcome for verdict in own)
    if not own or counts["no records"]:
        return f"No records: it takes {_NEEDED[claim]}."
    order: tuple[Outcome, ...] = ("pass", "fail", "undecided")
    said = ", ".join(f"{name} in {counts[name]}" for name in order if counts[name])
    return f"{said[0].upper()}{said[1:]} of {plural(len(own), 'comparison')}."
