"""Claims about quality: C4 and C7 (2:4 against dense and STE), C5 (larger M), C6 (against ASP).

two_four, larger_m, one_pass    the judges
quality                         one comparison of two rows' primary metric as a verdict
metric_of                       a row's primary metric as a value of a record
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nmbench.analysis.pairs import LEAST, Matched, against, decimals, matched, with_words
from nmbench.analysis.rows import Row
from nmbench.claims.pick import base, partner, sr_ste
from nmbench.claims.shrinkage import shrinkage
from nmbench.claims.verdict import Verdict, not_worse, outcome, scope
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["larger_m", "metric_of", "one_pass", "quality", "two_four"]

#: the task of C4; C7 is about all others
_FIRST = "classification"
#: larger M -> smaller M of the same density
_LARGER = {"4:8": "2:4", "2:8": "1:4"}


def two_four(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """C4 in classification and C7 in every other task: SR-STE at 2:4 against the dense twin, and against STE."""
    found = []
    for row in (row for row in sr_ste(rows) if base(row.pattern) == "2:4"):
        claim = "C4" if row.setting.task == _FIRST else "C7"
        dense, ste = partner(rows, row, "dense", pattern="dense"), partner(rows, row, "ste")
        if dense is not None:
            text = "At 2:4, SR-STE is not worse than dense, by the task's margin."
            found.append(quality(claim, text, row, matched(row, dense, loaded), within=True))
        if ste is not None:
            found.append(quality(claim, "At 2:4, SR-STE is better than STE.", row, matched(row, ste, loaded)))
    return found


def larger_m(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """C5, for every method and its settings that both patterns have."""
    found = []
    for row in (row for row in rows if row.seeds and base(row.pattern) in _LARGER):
        larger = base(row.pattern)
        smaller = _LARGER[larger]
        other = partner(rows, row, row.method, smaller + row.pattern.removeprefix(larger), row.hyper)
        if other is not None:
            text = f"{larger} is better than {smaller}."
            found.append(quality("C5", text, row, matched(row, other, loaded)))
    return found


def one_pass(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """C6, for every pattern that both methods have."""
    found = []
    for row in sr_ste(rows):
        asp = partner(rows, row, "asp")
        if asp is not None:
            text = "SR-STE is not worse than ASP, by the task's margin."
            found.append(quality("C6", text, row, matched(row, asp, loaded), within=True))
    return found


def quality(claim: str, text: str, row: Row, pairs: Matched, within: bool = False) -> Verdict:
    """Is `row` better in its primary metric, or, `within` the task's margin, not worse?"""
    metric = row.metric
    margin = metric.margin if within else 0.0
    compared = against(pairs, metric_of(row), metric.higher_is_better, margin)
    said = [f"{metric.name or 'no metric'} {with_words(compared, metric.unit, decimals(metric))}"]
    if within:
        said.append(f"margin {margin:g} {metric.unit}".rstrip() if margin else "the task declares no margin")
        judged = not_worse(compared, metric.higher_is_better, margin)
        if judged == "undecided" and compared.verdict == "worse" and compared.n >= LEAST:
            said.append("worse, but perhaps by less than the margin")
    else:
        judged = outcome(compared)
    if row.method == "sr-ste" and claim != "C5":
        said += shrinkage(row, pairs.first)
    if pairs.other_data:
        said.append(f"not paired, because the two saw other data: seed {', '.join(map(str, pairs.other_data))}")
    return Verdict(claim, text, judged, "; ".join(said), scope(row), compared.n)


def metric_of(row: Row) -> Callable[[Record], float | None]:
    """The value of `row`'s primary metric in a record."""

    def value(record: Record) -> float | None:
        found: float | None = (record.get("metrics") or {}).get(row.metric.name)
        return found

    return value
