"""Claims about the masks: C1 (SR-STE changes them less than STE) and C3 (they settle through training).

less_divergence    C1
settling           C3
comparable         may the flips of two records be compared?
flips_per_weight, late_rate, early_rate     values of one record
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from nmbench.analysis.pairs import Pairs, Value, against, matched, with_words
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import CONFIDENCE, Comparison, paired
from nmbench.claims.judgement import Judgement, Outcome, better
from nmbench.claims.pick import partner, sr_ste
from nmbench.document.words import number, plural
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record, Sad, Snapshots

__all__ = ["comparable", "early_rate", "flips_per_weight", "late_rate", "less_divergence", "settling"]


def less_divergence(loaded: Loaded, rows: Sequence[Row]) -> list[Judgement]:
    """C1, three ways: all flips, SAD of the first and the last mask (both per weight), and flips layer by layer."""
    found = []
    for row in sr_ste(rows):
        ste = partner(rows, row, "ste")
        if ste is not None:
            pairs = matched(row, ste, loaded).keep(comparable)
            found += [_total(row, pairs), _first_last(row, pairs), _by_layer(row, pairs)]
    return [judgement for judgement in found if judgement is not None]


def settling(loaded: Loaded, rows: Sequence[Row]) -> list[Judgement]:
    """C3: flips per weight and step, in the last third of the steps against the first third, for STE and SR-STE."""
    judged = [*(row for row in rows if row.method == "ste" and row.seeds), *sr_ste(rows)]
    return [judgement for row in judged if (judgement := _settling(loaded, row)) is not None]


def _settling(loaded: Loaded, row: Row) -> Judgement | None:
    rates = [(early_rate(loaded.records[place]), late_rate(loaded.records[place])) for place in row.records]
    known = [(early, late) for early, late in rates if early is not None and late is not None]
    if not known:
        return None
    first, last = [early for early, _ in known], [late for _, late in known]
    compared = paired([1e6 * rate for rate in last], [1e6 * rate for rate in first], higher_is_better=False)
    found = with_words(compared, decimals=_digits(first))
    figures = f"{_millions(first)} in the first third, {_millions(last)} in the last; {found}"
    text = "Flips per million weights and step are fewer in the last third of training than in the first."
    return Judgement("C3", text, better(compared), figures, row, compared.n)


def flips_per_weight(record: Record) -> float | None:
    """All mask flips divided by the weights under the masks."""
    return record.sad.per_weight if record.sad else None


def early_rate(record: Record) -> float | None:
    """Flips per weight and step in the first third of the steps."""
    return _rate(record, 0.0, 1 / 3)


def late_rate(record: Record) -> float | None:
    """The same in the last third."""
    return _rate(record, 2 / 3, 1.0)


def _rate(record: Record, start: float, end: float) -> float | None:
    """Entry i holds the flips of the steps after step[i - 1]; it counts where its last step lies in (start, end]."""
    sad = record.sad
    if sad is None or not sad.weights or not sad.flips or len(sad.step) < 3:
        return None
    steps, flips = (np.asarray(values, dtype=np.float64) for values in (sad.step, sad.flips))
    lengths = np.diff(steps, prepend=0.0)
    inside = (steps > start * steps[-1]) & (steps <= end * steps[-1])
    covered = float(lengths[inside].sum())
    return float(flips[inside].sum()) / covered / float(sad.weights) if covered > 0 else None


def comparable(one: Record, other: Record) -> bool:
    """Were the flips of both counted, over the same steps, under masks of the same pattern and size?"""
    return _counted_over(one) == _counted_over(other) and flips_per_weight(one) is not None


def _counted_over(record: Record) -> tuple[object, ...]:
    sad = record.sad or Sad()
    return sad.step[-1] if sad.step else None, sad.uncounted or 0, sad.pattern, sad.weights


def _total(row: Row, pairs: Pairs[Record]) -> Judgement:
    compared = against(pairs, flips_per_weight, higher_is_better=False)
    text = "SR-STE flips fewer mask entries than STE, over all steps and layers."
    figures = f"{_means(pairs, flips_per_weight)} flips per weight; {with_words(compared, decimals=3)}"
    return Judgement("C1", text, better(compared), figures, row, compared.n)


def _first_last(row: Row, pairs: Pairs[Record]) -> Judgement | None:
    known = pairs.keep(_same_snapshots)
    if not known.seeds:
        return None
    compared = against(known, _divergence, higher_is_better=False)
    text = "The SAD of the first and the last mask is smaller with SR-STE than with STE."
    figures = f"{_means(known, _divergence)} per weight; {with_words(compared, decimals=3)}"
    return Judgement("C1", text, better(compared), figures, row, compared.n)


def _by_layer(row: Row, pairs: Pairs[Record]) -> Judgement | None:
    """Every layer by itself. That all flip less needs no correction for their number; that one flips more does."""
    names = [name for name in _layers(pairs.first) if name in _layers(pairs.second)]
    if not names:
        return None
    compared = {name: against(pairs, _Layer(name), higher_is_better=False) for name in names}
    found = Counter(better(one) for one in compared.values())
    more = [name for name, one in compared.items() if better(one) is Outcome.FAIL]
    # one of many layers looks worse by chance alone
    sure = [name for name in more if _sure(compared[name], len(names))]
    figures = (
        f"of {plural(len(names), 'layer')}, {found[Outcome.PASS]} flip less, {len(more)} more, and of "
        f"{found[Outcome.UNDECIDED]} the seeds do not tell" + (f"; more: {', '.join(more[:3])}" if more else "")
    )
    if more and not sure:
        figures += ", which may be chance among so many"
    every = Outcome.PASS if found[Outcome.PASS] == len(names) else Outcome.UNDECIDED
    whole = Outcome.FAIL if sure else every
    return Judgement("C1", "SR-STE flips fewer mask entries than STE in every layer.", whole, figures, row,
                   len(pairs.seeds))  # fmt: skip


def _sure(found: Comparison, layers: int) -> bool:
    """Does it stand after Bonferroni's correction for the number of layers? Equal counts in every seed do."""
    return found.p_value is None or found.p_value < (1 - CONFIDENCE) / layers


@dataclass(frozen=True)
class _Layer:
    """The flips of one layer, as a value of a record."""

    name: str

    def __call__(self, record: Record) -> float | None:
        return record.sad.per_layer.get(self.name) if record.sad else None


def _layers(records: Sequence[Record]) -> list[str]:
    """Names of the layers that all of the records count."""
    counted = [list(record.sad.per_layer if record.sad else {}) for record in records]
    return [name for name in counted[0] if all(name in one for one in counted)] if counted else []


def _same_snapshots(one: Record, other: Record) -> bool:
    """Were the first and the last mask of both taken at the same steps?"""
    first, second = (((record.sad or Sad()).snapshots or Snapshots()).steps for record in (one, other))
    if len(first) < 2 or len(second) < 2 or (first[0], first[-1]) != (second[0], second[-1]):
        return False
    return None not in (_divergence(one), _divergence(other))


def _divergence(record: Record) -> float | None:
    """SAD (L1 distance) of the first and the last snapshot, per weight."""
    sad = record.sad or Sad()
    snapshots = sad.snapshots or Snapshots()
    known = snapshots.steps and snapshots.first_last is not None and sad.weights
    return (snapshots.first_last or 0) / sad.weights if known and sad.weights else None


def _means(pairs: Pairs[Record], value: Value) -> str:
    sides = ([value(record) for record in side] for side in (pairs.first, pairs.second))
    known = [[number for number in side if number is not None] for side in sides]
    if not all(known):
        return "no counts of"
    return f"SR-STE {fmean(known[0]):.3g}, STE {fmean(known[1]):.3g}"


def _millions(rates: Sequence[float]) -> str:
    mean = 1e6 * fmean(rates)
    return number(mean, _digits(rates))


def _digits(rates: Sequence[float]) -> int:
    """Decimals of flips per million weights and step."""
    return 0 if 1e6 * fmean(rates) >= 100 else 2
