"""Claims about the masks: C1 (SR-STE changes them less than STE), C2 (what lambda_w does), C3 (they settle)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from nmbench.analysis.pairs import Pairs, Value, against, decimals, matched, primary, with_words
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import CONFIDENCE, Comparison, paired
from nmbench.claims.judgement import Judgement, Outcome, better
from nmbench.claims.pick import lambda_w, partner, shrinkage, sr_ste, very_large
from nmbench.claims.quality import quality
from nmbench.document.words import number, plural
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record, Sad, Snapshots

#: set here, for want of a number in the paper: in the last third of training, 1 % of STE's flips
FROZEN = 0.01


def less_divergence(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C1, three ways: all flips, SAD of the first and the last mask (both per weight), and flips layer by layer."""
    for row in sr_ste(rows):
        ste = partner(rows, row, "ste")
        if ste is None:
            continue
        pairs = matched(row, ste, loaded).keep(_comparable)
        text = "SR-STE flips fewer mask entries than STE, over all steps and layers."
        yield _fewer(row, pairs, _flips, text, "flips per weight")
        if (known := pairs.keep(_same_snapshots)).seeds:
            text = "The SAD of the first and the last mask is smaller with SR-STE than with STE."
            yield _fewer(row, known, _divergence, text, "per weight")
        yield from _by_layer(row, pairs)


def decay(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C2: a positive lambda_w is judged by quality, a negative one by flips too, a very large one by late flips."""
    for row in rows:
        value, ste = lambda_w(row), partner(rows, row, "ste")
        if not row.seeds or not value or ste is None:
            continue
        pairs = matched(row, ste, loaded)
        if value < 0:
            found = against(pairs.keep(_comparable), _flips)
            text = "A negative lambda_w raises the mask flips above those of STE."
            yield Judgement("C2", text, better(found), f"flips per weight {with_words(found)}", row, found.n)
            yield _hurts(row, pairs)
        elif value == very_large(rows, row):
            yield from _freezes(row, pairs.keep(_comparable))
        else:
            yield quality("C2", "lambda_w > 0 is better than none (STE).", row, pairs)


def settling(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C3: flips per weight and step, in the last third of the steps against the first third, for STE and SR-STE."""
    for row in [*(row for row in rows if row.method == "ste" and row.seeds), *sr_ste(rows)]:
        rates = [(_early(record), _late(record)) for record in (loaded.records[place] for place in row.records)]
        known = [(early, late) for early, late in rates if early is not None and late is not None]
        if not known:
            continue
        first, last = [early for early, _ in known], [late for _, late in known]
        found = paired(last, first, higher_is_better=False)
        digits = 0 if fmean(first) >= 100 else 2
        figures = (
            f"{number(fmean(first), digits)} in the first third, {number(fmean(last), 0 if fmean(last) >= 100 else 2)} "
            f"in the last; {with_words(found, decimals=digits)}"
        )
        text = "Flips per million weights and step are fewer in the last third of training than in the first."
        yield Judgement("C3", text, better(found), figures, row, found.n)


def _fewer(row: Row, pairs: Pairs[Record], value: Value, text: str, unit: str) -> Judgement:
    """Is `value` smaller with SR-STE than with STE?"""
    found = against(pairs, value, higher_is_better=False)
    sides = [[known for record in side if (known := value(record)) is not None] for side in (pairs.first, pairs.second)]
    means = f"SR-STE {fmean(sides[0]):.3g}, STE {fmean(sides[1]):.3g}" if all(sides) else "no counts of"
    return Judgement("C1", text, better(found), f"{means} {unit}; {with_words(found, decimals=3)}", row, found.n)


def _by_layer(row: Row, pairs: Pairs[Record]) -> Iterator[Judgement]:
    """Every layer by itself. That all flip less needs no correction for their number; that one flips more does."""
    names = [name for name in _layers(pairs.first) if name in _layers(pairs.second)]
    if not names:
        return
    compared = {name: against(pairs, _of_layer(name), higher_is_better=False) for name in names}
    ends = Counter(better(found) for found in compared.values())
    more = [name for name, found in compared.items() if better(found) is Outcome.FAIL]
    # one of many layers looks worse by chance alone
    sure = [name for name in more if _sure(compared[name], len(names))]
    figures = (
        f"of {plural(len(names), 'layer')}, {ends[Outcome.PASS]} flip less, {len(more)} more, and of "
        f"{ends[Outcome.UNDECIDED]} the seeds do not tell"
        + (f"; more: {', '.join(more[:3])}" if more else "")
        + (", which may be chance among so many" if more and not sure else "")
    )
    every = Outcome.PASS if ends[Outcome.PASS] == len(names) else Outcome.UNDECIDED
    text = "SR-STE flips fewer mask entries than STE in every layer."
    yield Judgement("C1", text, Outcome.FAIL if sure else every, figures, row, len(pairs.seeds))


def _sure(found: Comparison, layers: int) -> bool:
    """Does it stand after Bonferroni's correction for the number of layers? Equal counts in every seed do."""
    return found.p_value is None or found.p_value < (1 - CONFIDENCE) / layers


def _hurts(row: Row, pairs: Pairs[Record]) -> Judgement:
    """The claim is that it is worse: the direction of the metric is turned round."""
    metric = row.metric
    found = against(pairs, primary(row), not metric.higher_is_better)
    figures = [f"{metric.name} {with_words(found, metric.unit, decimals(metric))}", *shrinkage(row, pairs.first)]
    text = "A negative lambda_w gives a worse model than STE."
    return Judgement("C2", text, better(found), "; ".join(figures), row, found.n)


def _freezes(row: Row, pairs: Pairs[Record]) -> Iterator[Judgement]:
    known = pairs.keep(lambda one, other: None not in (_late(one), _late(other)))
    if not known.seeds:
        return
    mine, allowed = (
        [_late(record) or 0.0 for record in known.first],
        [FROZEN * (_late(it) or 0.0) for it in known.second],
    )
    found = paired(mine, allowed, higher_is_better=False)
    share = f"{100 * FROZEN * sum(mine) / sum(allowed):.2g} % of STE's" if sum(allowed) else "STE's are none either"
    all_steps = (f"{fmean(_flips(record) or 0.0 for record in side):.3g}" for side in (known.first, known.second))
    figures = (
        f"flips in the last third: {share}; per million weights and step, against the bound, "
        f"{with_words(found, '', 0)}",
        f"flips per weight over all steps {', STE '.join(all_steps)}",
        *shrinkage(row, known.first),
    )
    text = f"A very large lambda_w freezes the mask: below {100 * FROZEN:g} % of STE's flips in the last third."
    yield Judgement("C2", text, better(found), "; ".join(figures), row, found.n)


def _flips(record: Record) -> float | None:
    """All mask flips divided by the weights under the masks."""
    return record.sad.per_weight if record.sad else None


def _early(record: Record) -> float | None:
    """Flips per million weights and step in the first third of the steps."""
    return _rate(record, 0.0, 1 / 3)


def _late(record: Record) -> float | None:
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
    return 1e6 * float(flips[inside].sum()) / covered / float(sad.weights) if covered > 0 else None


def _comparable(one: Record, other: Record) -> bool:
    """Were the flips of both counted, over the same steps, under masks of the same pattern and size?"""
    return _counted_over(one) == _counted_over(other) and _flips(one) is not None


def _counted_over(record: Record) -> tuple[object, ...]:
    sad = record.sad or Sad()
    return sad.step[-1] if sad.step else None, sad.uncounted or 0, sad.pattern, sad.weights


def _of_layer(name: str) -> Value:
    """The flips of one layer, as a value of a record."""
    return lambda record: record.sad.per_layer.get(name) if record.sad else None


def _layers(records: Sequence[Record]) -> list[str]:
    """Names of the layers that all of the records count."""
    counted = [list(record.sad.per_layer if record.sad else {}) for record in records]
    return [name for name in counted[0] if all(name in layers for layers in counted)] if counted else []


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
    if not snapshots.steps or snapshots.first_last is None or not sad.weights:
        return None
    return snapshots.first_last / sad.weights
