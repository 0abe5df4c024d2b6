"""C2, the sweep of lambda_w: against STE, which is lambda_w = 0, at the same pattern.

decay    judges every value of the sweep by its sign and size
FROZEN   a mask is called frozen below this share of STE's flips
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from nmbench.analysis.pairs import Pairs, against, decimals, matched, primary, with_words
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import paired
from nmbench.claims.flips import comparable, flips_per_weight, late_rate
from nmbench.claims.judgement import Judgement, better
from nmbench.claims.pick import lambda_w, partner, very_large
from nmbench.claims.quality import quality
from nmbench.claims.shrinkage import shrinkage
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["FROZEN", "decay"]

#: set here, for want of a number in the paper: in the last third of training, 1 % of STE's flips
FROZEN = 0.01


def decay(loaded: Loaded, rows: Sequence[Row]) -> list[Judgement]:
    """A positive lambda_w is judged by quality, a negative one by flips and quality, a very large one by late flips."""
    found: list[Judgement] = []
    for row in rows:
        value, ste = lambda_w(row), partner(rows, row, "ste")
        if not row.seeds or not value or ste is None:
            continue
        pairs = matched(row, ste, loaded)
        if value < 0:
            found += [_raises(row, pairs.keep(comparable)), _hurts(row, pairs)]
        elif value == very_large(rows, row):
            found += _freezes(row, pairs.keep(comparable))
        else:
            found.append(quality("C2", "lambda_w > 0 is better than none (STE).", row, pairs))
    return found


def _raises(row: Row, pairs: Pairs[Record]) -> Judgement:
    compared = against(pairs, flips_per_weight)
    text = "A negative lambda_w raises the mask flips above those of STE."
    figures = f"flips per weight {with_words(compared)}"
    return Judgement("C2", text, better(compared), figures, row, compared.n)


def _hurts(row: Row, pairs: Pairs[Record]) -> Judgement:
    """The claim is that it is worse: the direction of the metric is turned round."""
    metric = row.metric
    compared = against(pairs, primary(row), not metric.higher_is_better)
    said = [f"{metric.name} {with_words(compared, metric.unit, decimals(metric))}", *shrinkage(row, pairs.first)]
    text = "A negative lambda_w gives a worse model than STE."
    return Judgement("C2", text, better(compared), "; ".join(said), row, compared.n)


def _freezes(row: Row, pairs: Pairs[Record]) -> list[Judgement]:
    known = pairs.keep(lambda one, other: None not in (late_rate(one), late_rate(other)))
    if not known.seeds:
        return []
    mine, allowed = [_late(record) for record in known.first], [FROZEN * _late(record) for record in known.second]
    compared = paired(mine, allowed, higher_is_better=False)
    share = f"{100 * FROZEN * sum(mine) / sum(allowed):.2g} % of STE's" if sum(allowed) else "STE's are none either"
    figures = (
        f"flips in the last third: {share}; per million weights and step, against the bound, "
        f"{with_words(compared, '', 0)}"
        f"; flips per weight over all steps {_all(known.first)}, STE {_all(known.second)}"
    )
    figures = "; ".join([figures, *shrinkage(row, known.first)])
    text = f"A very large lambda_w freezes the mask: below {100 * FROZEN:g} % of STE's flips in the last third."
    return [Judgement("C2", text, better(compared), figures, row, compared.n)]


def _all(records: Sequence[Record]) -> str:
    """Mean flips per weight over the whole training."""
    return f"{fmean(flips_per_weight(record) or 0.0 for record in records):.3g}"


def _late(record: Record) -> float:
    """Flips per million weights and step in the last third."""
    return 1e6 * (late_rate(record) or 0.0)
