"""The seed paper's claims, judged from records.

judge           records and rows -> verdicts, every claim at least once
summary_table   how often each claim passed, failed, was not decided
claims_tables   the verdicts, a table for each statement that was judged
prose           one sentence a claim
CLAIMS, Judgement

A verdict is about the records that were given: short schedules on small data may refute what full ones confirm, and the
other way round. No row is picked by its result; every lambda_w of a sweep is judged by itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from nmbench.analysis.pairs import LEAST
from nmbench.analysis.rows import Row, Setting
from nmbench.claims.cost import faster, negligible
from nmbench.claims.decay import decay
from nmbench.claims.flips import less_divergence, settling
from nmbench.claims.judgement import CLAIMS, Judgement, Outcome
from nmbench.claims.quality import larger_m, one_pass, two_four
from nmbench.claims.shrinkage import NOTE, SUM
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural
from nmbench.records.frame import Loaded

__all__ = ["CLAIMS", "Judgement", "claims_tables", "judge", "prose", "summary_table"]

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
    Column("scope", "Where"),
    Column("outcome", "Outcome"),
    Column("seeds", "Seeds", "r"),
    Column("figures", "Figures"),
)
#: what stands before the pattern in a scope
_SETTING = re.compile(r".*, (?=\d+:\d+)")
_ENDS: tuple[Outcome, ...] = ("pass", "fail", "undecided")
_HOW = (
    "A difference is that of the two means, paired by seed, with its 95 % interval; the outcome is read off the "
    f"interval. Fewer than {LEAST} seeds decide nothing. No correction is made for the number of rows.",
    'A claim of "not worse" fails only where the whole interval lies beyond the margin: a row that is called worse in '
    "the tables, because its interval lies below 0 and reaches the margin, may be undecided here.",
    'After "seen from": the true difference that so many seeds with this spread would have shown in four of five '
    "repetitions.",
)


def judge(loaded: Loaded, rows: Sequence[Row]) -> list[Judgement]:
    """Every verdict that the records allow, by claim; a claim that none of them is about is "no records", in words."""
    settings: dict[Setting, list[Row]] = {}
    for row in rows:
        settings.setdefault(row.setting, []).append(row)
    found = [verdict for own in settings.values() for one in _JUDGES for verdict in one(loaded, own)]
    judged = {verdict.claim for verdict in found}
    found += [
        Judgement(claim, text, "no records", f"it takes {_NEEDED[claim]}")
        for claim, text in CLAIMS.items()
        if claim not in judged
    ]
    return sorted(found, key=lambda verdict: verdict.claim)


def summary_table(verdicts: Sequence[Judgement]) -> Table:
    """One row a claim that was judged: comparisons by outcome. The notes say how all verdicts here are to be read."""
    columns = (
        Column("claim", "Claim"),
        Column("text", "What the paper says"),
        *(Column(end, end.capitalize(), "r") for end in _ENDS),
    )
    rows = []
    for claim, counts in _counted(verdicts).items():
        ends = (Cell(str(counts[end]) if counts[end] else "-", counts[end]) for end in _ENDS)
        rows.append((Cell(claim), Cell(CLAIMS[claim]), *ends))
    notes = (*_HOW, *([NOTE] if any(SUM in verdict.figures for verdict in verdicts) else []))
    return Table("claims", "Comparisons by outcome", columns, tuple(rows), notes, keys=2)


def claims_tables(verdicts: Sequence[Judgement]) -> list[Table]:
    """A table for each statement, by claim: one row a verdict; pass and fail are strong.

    Where all scopes are of one setting, it is said with the title.
    """
    judged = [verdict for verdict in verdicts if verdict.outcome != "no records"]
    settings = {found[0] if (found := _SETTING.match(verdict.scope)) else "" for verdict in judged}
    shared = settings.pop() if len(settings) == 1 else ""
    statements: dict[tuple[str, str], list[Judgement]] = {}
    for verdict in judged:
        statements.setdefault((verdict.claim, verdict.text), []).append(verdict)
    return [
        Table(
            f"claim-{claim.lower()}-{place}",
            f"{claim}. {statement}",
            _COLUMNS,
            tuple(_cells(verdict, verdict.scope.removeprefix(shared)) for verdict in own),
            about=shared.removesuffix(", "),
        )
        for place, ((claim, statement), own) in enumerate(statements.items())
    ]


def prose(verdicts: Sequence[Judgement]) -> list[str]:
    """ "C1. <the claim> Pass in 4, undecided in 2 of 6 comparisons.", one a claim, as plain text."""
    return [f"{claim}. {text} {_summed(claim, verdicts)}" for claim, text in CLAIMS.items()]


def _cells(verdict: Judgement, where: str) -> tuple[Cell, ...]:
    return (
        Cell(where or "-"),
        Cell(verdict.outcome, strong=verdict.outcome in ("pass", "fail")),
        Cell(str(verdict.seeds) if verdict.seeds else "-", verdict.seeds),
        Cell(verdict.figures),
    )


def _counted(verdicts: Sequence[Judgement]) -> dict[str, Counter[Outcome]]:
    """Claim -> verdicts by outcome, of the claims that any record is about."""
    found: dict[str, Counter[Outcome]] = {}
    for verdict in verdicts:
        if verdict.outcome != "no records":
            found.setdefault(verdict.claim, Counter())[verdict.outcome] += 1
    return found


def _summed(claim: str, verdicts: Sequence[Judgement]) -> str:
    counts = _counted(verdicts).get(claim)
    if counts is None:
        return f"No records: it takes {_NEEDED[claim]}."
    said = ", ".join(f"{name} in {counts[name]}" for name in _ENDS if counts[name])
    return f"{said[0].upper()}{said[1:]} of {plural(counts.total(), 'comparison')}."
