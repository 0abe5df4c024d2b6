"""Claims about quality: C4 and C7 (2:4 against dense and STE), C5 (larger M), C6 (against ASP)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nmbench.analysis.pairs import LEAST, Pairs, against, decimals, matched, primary, with_words
from nmbench.analysis.rows import Row
from nmbench.claims.judgement import Judgement, better, not_worse
from nmbench.claims.pick import base, dense_twin, partner, shrinkage, sr_ste
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record
from nmbench.sparsity.pattern import NMPattern

#: the task of C4; C7 is about all others
_FIRST = "classification"
#: compared with half of their N and M
_LARGER = ("4:8", "2:8")


def two_four(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C4 in classification and C7 in every other task: SR-STE at 2:4 against the dense twin, and against STE."""
    for row in (row for row in sr_ste(rows) if base(row.pattern) == "2:4"):
        claim = "C4" if row.setting.task == _FIRST else "C7"
        dense, ste = dense_twin(rows, row), partner(rows, row, "ste")
        if dense is not None:
            text = "At 2:4, SR-STE is not worse than dense, by the task's margin."
            yield quality(claim, text, row, matched(row, dense, loaded), within=True)
        if ste is not None:
            yield quality(claim, "At 2:4, SR-STE is better than STE.", row, matched(row, ste, loaded))


def larger_m(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C5, for every method and its settings that both patterns have."""
    for row in rows:
        if not row.seeds or not isinstance(row.pattern, NMPattern) or base(row.pattern) not in _LARGER:
            continue
        smaller = replace(row.pattern, n=row.pattern.n // 2, m=row.pattern.m // 2)
        other = partner(rows, row, row.method, row.hyper, smaller)
        if other is not None:
            text = f"{base(row.pattern)} is better than {base(smaller)}."
            yield quality("C5", text, row, matched(row, other, loaded))


def one_pass(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C6, for every pattern that both methods have."""
    for row in sr_ste(rows):
        asp = partner(rows, row, "asp")
        if asp is not None:
            text = "SR-STE is not worse than ASP, by the task's margin."
            yield quality("C6", text, row, matched(row, asp, loaded), within=True)


def quality(claim: str, text: str, row: Row, pairs: Pairs[Record], within: bool = False) -> Judgement:
    """Is `row` better in its primary metric, or, `within` the task's margin, not worse?"""
    metric = row.metric
    margin = metric.margin if within else 0.0
    compared = against(pairs, primary(row), metric.higher_is_better, margin)
    said = [f"{metric.name or 'no metric'} {with_words(compared, metric.unit, decimals(metric))}"]
    if within:
        said.append(f"margin {margin:g} {metric.unit}".rstrip() if margin else "the task declares no margin")
        judged = not_worse(compared)
        said += [compared.words] if compared.n >= LEAST else []
    else:
        judged = better(compared)
    if row.method == "sr-ste" and claim != "C5":
        said += shrinkage(row, pairs.first)
    if pairs.other_data:
        said.append(f"not paired, because the two saw other data: seed {', '.join(map(str, pairs.other_data))}")
    return Judgement(claim, text, judged, "; ".join(said), row, compared.n)
