"""Claims about time: C8 (inference) and C9 (training).

faster         C8, from the rows of a record's `speed` section: medians of one whole forward pass with dense and with
               converted layers, measured in one run; each batch size, device and dtype is judged by itself
negligible     C9, from training times of cells that had the machine to themselves
NEGLIGIBLE     the extra training time that is called negligible
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nmbench.analysis.pairs import against, matched
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison, paired
from nmbench.claims.pick import base, partner, sr_ste
from nmbench.claims.verdict import Verdict, not_worse, outcome, scope
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["NEGLIGIBLE", "faster", "negligible"]

#: set here, for want of a number in the paper: 5 % more training time
NEGLIGIBLE = 0.05


def faster(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """C8: is the converted model's forward pass shorter, at 2:4, whatever the method that gave the weights?"""
    found = []
    for row in (row for row in rows if base(row.pattern) == "2:4"):
        measured: dict[tuple[int, str, str], list[float]] = {}
        for place in row.records:
            for key, ratio in _speed_ups(loaded.records[place]):
                measured.setdefault(key, []).append(ratio)
        for (batch, device, dtype), ratios in sorted(measured.items()):
            compared = paired([math.log(ratio) for ratio in ratios], [0.0] * len(ratios))
            figures = f"dense over converted time {_factor(compared)}, {dtype} on {device}"
            text = f"2:4 is faster than dense at batch {batch}."
            found.append(Verdict("C8", text, outcome(compared), figures, scope(row), compared.n))
    return found


def negligible(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """C9: training time of SR-STE over that of the dense twin, and over that of STE."""
    found = []
    for row in sr_ste(rows):
        others = {"dense": partner(rows, row, "dense", pattern="dense"), "STE": partner(rows, row, "ste")}
        found += [_ratio(loaded, row, name, other) for name, other in others.items() if other is not None]
    return [verdict for verdict in found if verdict is not None]


def _ratio(loaded: Loaded, row: Row, name: str, other: Row) -> Verdict | None:
    pairs = matched(row, other, loaded).keep(_comparable)
    if not pairs.seeds:
        return None
    compared = against(pairs, _log_time, higher_is_better=False, margin=math.log1p(NEGLIGIBLE))
    text = f"Training with SR-STE takes at most {100 * NEGLIGIBLE:g} % longer than {name}."
    figures = f"training time over that of {name} {_factor(compared)}"
    if name == "dense" and any((record.get("sad") or {}).get("step") for record in pairs.second):
        figures += "; counting the flips of a shadow mask is part of the dense twin's time"
    return Verdict("C9", text, not_worse(compared, False, math.log1p(NEGLIGIBLE)), figures, scope(row), compared.n)


def _comparable(one: Record, other: Record) -> bool:
    """Both had the machine to themselves, trained in one go, and on the same hardware with as many threads."""
    timings = [record.get("timings") or {} for record in (one, other)]
    where = [record.get("environment") or {} for record in (one, other)]
    alone = all(
        times.get("alone") and not times.get("resumed") and _positive(times.get("train_s")) for times in timings
    )
    return alone and all(where[0].get(key) == where[1].get(key) for key in ("cpu", "gpu", "threads"))


def _log_time(record: Record) -> float:
    return math.log(record["timings"]["train_s"])


def _speed_ups(record: Record) -> Iterator[tuple[tuple[int, str, str], float]]:
    """((batch, device, dtype), dense over converted time) of each batch at which both were timed."""
    speed = record.get("speed") or {}
    for row in speed.get("rows") or []:
        if _positive(row.get("dense_ms")) and _positive(row.get("converted_ms")):
            key = (int(row["batch"]), str(speed.get("device")), str(speed.get("dtype")))
            if _positive(ratio := float(row["dense_ms"]) / float(row["converted_ms"])):
                yield key, ratio


def _positive(value: float | None) -> bool:
    """Has it a logarithm?"""
    return value is not None and 0 < value < math.inf


def _factor(compared: Comparison) -> str:
    """A comparison of logarithms as a factor: "1.08 [1.05, 1.11], 3 seeds"."""
    ends = "" if compared.interval is None else f" [{', '.join(f'{_exp(end):.3f}' for end in compared.interval)}]"
    return f"{_exp(compared.difference):.3f}{ends}, {compared.n} seed{'s' if compared.n != 1 else ''}"


def _exp(logarithm: float) -> float:
    """Of an interval over few seeds an end may lie beyond all numbers."""
    try:
        return math.exp(logarithm)
    except OverflowError:
        return math.inf
