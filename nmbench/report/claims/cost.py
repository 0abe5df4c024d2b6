"""Claims about time: C8 (inference) and C9 (training).

faster         C8, from a record's `speed` section: {dense_ms, converted_ms}, medians of one whole forward pass of the
               dense twin and of the converted model, measured in one run
negligible     C9, from training times of cells that had the machine to themselves
NEGLIGIBLE     the extra training time that is called negligible
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nmbench.record import Record
from nmbench.report.claims.pick import base, partner, sr_ste
from nmbench.report.claims.verdict import Verdict, outcome, scope
from nmbench.report.compare import Row
from nmbench.report.evidence import against, matched
from nmbench.report.frame import Loaded
from nmbench.report.statistics import Comparison, paired

__all__ = ["NEGLIGIBLE", "faster", "negligible"]

#: set here, for want of a number in the paper: 5 % more training time
NEGLIGIBLE = 0.05


def faster(loaded: Loaded, rows: Sequence[Row]) -> list[Verdict]:
    """C8: is the converted model's forward pass shorter, at 2:4, whatever the method that gave the weights?"""
    found = []
    for row in (row for row in rows if base(row.pattern) == "2:4"):
        ratios = [value for place in row.records if (value := _speed_up(loaded.records[place])) is not None]
        if ratios:
            compared = paired([math.log(ratio) for ratio in ratios], [0.0] * len(ratios))
            figures = f"dense over converted time {_factor(compared)}"
            found.append(Verdict("C8", "2:4 is faster than dense.", outcome(compared, "better"), figures, scope(row),
                                 compared.n))  # fmt: skip
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
    return Verdict("C9", text, outcome(compared, "better", "not worse"), figures, scope(row), compared.n)


def _comparable(one: Record, other: Record) -> bool:
    """Both had the machine to themselves, trained in one go, and on the same hardware with as many threads."""
    timings = [record.get("timings") or {} for record in (one, other)]
    where = [record.get("environment") or {} for record in (one, other)]
    alone = all(times.get("alone") and not times.get("resumed") and times.get("train_s") for times in timings)
    return alone and all(where[0].get(key) == where[1].get(key) for key in ("cpu", "gpu", "threads"))


def _log_time(record: Record) -> float:
    return math.log(record["timings"]["train_s"])


def _speed_up(record: Record) -> float | None:
    speed = record.get("speed")
    if not isinstance(speed, dict) or not speed.get("dense_ms") or not speed.get("converted_ms"):
        return None
    return float(speed["dense_ms"]) / float(speed["converted_ms"])


def _factor(compared: Comparison) -> str:
    """A comparison of logarithms as a factor: "1.08 [1.05, 1.11], 3 seeds"."""
    ends = "" if compared.interval is None else f" [{', '.join(f'{math.exp(end):.3f}' for end in compared.interval)}]"
    return f"{math.exp(compared.difference):.3f}{ends}, {compared.n} seed{'s' if compared.n != 1 else ''}"
