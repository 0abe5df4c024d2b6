"""Claims about time: C8 (inference) and C9 (training)."""

import math
from collections.abc import Iterator, Sequence

from nmbench._util.groups import grouped
from nmbench.analysis.pairs import Pairs, against, matched
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison, paired
from nmbench.claims.judgement import Judgement, better, not_worse
from nmbench.claims.pick import base, dense_twin, partner, sr_ste
from nmbench.document.words import plural
from nmbench.records.frame import Loaded
from nmbench.records.schema import Environment, Record, Speed, Timings

#: set here, for want of a number in the paper: 5 % more training time
NEGLIGIBLE = 0.05


def faster(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C8: is the converted model's forward pass shorter, at 2:4, whatever the method that gave the weights?

    Times are medians of one whole forward pass, dense and converted measured in one run; each batch size, device and
    dtype is judged by itself.
    """
    for row in (row for row in rows if base(row.pattern) == "2:4"):
        measured = grouped(pair for place in row.records for pair in _speed_ups(loaded.records[place]))
        for (batch, device, dtype), ratios in sorted(measured.items()):
            compared = paired([math.log(ratio) for ratio in ratios], [0.0] * len(ratios))
            figures = f"dense over converted time {_factor(compared)}, {dtype} on {device}"
            text = f"2:4 is faster than dense at batch {batch}."
            yield Judgement("C8", text, better(compared), figures, row, compared.n)


def negligible(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Judgement]:
    """C9: training time of SR-STE over that of the dense twin, and over that of STE."""
    for row in sr_ste(rows):
        for name, other in (("dense", dense_twin(rows, row)), ("STE", partner(rows, row, "ste"))):
            pairs = matched(row, other, loaded).keep(_comparable) if other else None
            if pairs and pairs.seeds:
                yield _ratio(row, name, pairs)


def _ratio(row: Row, name: str, pairs: Pairs[Record]) -> Judgement:
    compared = against(pairs, _log_time, higher_is_better=False, margin=math.log1p(NEGLIGIBLE))
    text = f"Training with SR-STE takes at most {100 * NEGLIGIBLE:g} % longer than {name}."
    figures = f"training time over that of {name} {_factor(compared)}"
    if name == "dense" and any(record.sad and record.sad.step for record in pairs.second):
        figures += "; counting the flips of a shadow mask is part of the dense twin's time"
    return Judgement("C9", text, not_worse(compared), figures, row, compared.n)


def _comparable(one: Record, other: Record) -> bool:
    """Both had the machine to themselves, trained in one go, and on the same hardware with as many threads."""
    timings = [record.timings or Timings() for record in (one, other)]
    environments = [record.environment or Environment() for record in (one, other)]
    machines = {(where.cpu, where.gpu, where.threads) for where in environments}
    alone = all(times.alone and not times.resumed and _positive(times.train_s) for times in timings)
    return alone and len(machines) == 1


def _log_time(record: Record) -> float:
    return math.log(record.timings.train_s) if record.timings and record.timings.train_s else math.nan


def _speed_ups(record: Record) -> Iterator[tuple[tuple[int, str, str], float]]:
    """((batch, device, dtype), dense over converted time) of each batch at which both were timed."""
    speed = record.speed or Speed()
    for row in speed.rows:
        if row.dense_ms and row.converted_ms and _positive(ratio := row.dense_ms / row.converted_ms):
            yield (row.batch, str(speed.device), str(speed.dtype)), ratio


def _positive(value: float | None) -> bool:
    """Has it a logarithm?"""
    return value is not None and 0 < value < math.inf


def _factor(compared: Comparison) -> str:
    """A comparison of logarithms as a factor: "1.08 [1.05, 1.11], 3 seeds"."""
    ends = "" if compared.interval is None else f" [{', '.join(f'{_exp(end):.3f}' for end in compared.interval)}]"
    return f"{_exp(compared.difference):.3f}{ends}, {plural(compared.n, 'seed')}"


def _exp(logarithm: float) -> float:
    """Of an interval over few seeds an end may lie beyond all numbers."""
    try:
        return math.exp(logarithm)
    except OverflowError:
        return math.inf
