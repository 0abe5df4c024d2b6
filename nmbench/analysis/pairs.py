"""Two rows side by side, seed by seed: what rows, claims and the comparison of two result sets judge by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from nmbench.analysis.statistics import Comparison, paired
from nmbench.contract.spec import Metric
from nmbench.document.words import number, plural, signed
from nmbench.records.schema import Record

if TYPE_CHECKING:
    from nmbench.analysis.rows import Row
    from nmbench.records.frame import Loaded

#: with two seeds the interval is 12.7 standard errors wide to each side: a verdict read off it is luck
LEAST = 3

#: a number of one record, None where the record does not have it
Value = Callable[[Record], float | None]
T = TypeVar("T")


@dataclass(frozen=True)
class Pairs(Generic[T]):
    """Things of two sides, seed by seed.

    Attributes:
        seeds, first, second: the pairs; equally many of each.
        other_data: seeds that both sides have, left out because the two saw different data.
        alone: seeds that only the first side has.
    """

    seeds: tuple[int, ...]
    first: tuple[T, ...]
    second: tuple[T, ...]
    other_data: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()

    def keep(self, wanted: Callable[[T, T], bool]) -> Pairs[T]:
        """Only the pairs of which `wanted` is true."""
        kept = [trio for trio in zip(self.seeds, self.first, self.second, strict=True) if wanted(*trio[1:])]
        seeds, first, second = zip(*kept, strict=True) if kept else ((), (), ())
        return replace(self, seeds=seeds, first=first, second=second)


def pair(first: Mapping[int, T], second: Mapping[int, T], data: Callable[[T], str | None]) -> Pairs[T]:
    """Pair what is of one seed and whose data fingerprints, which `data` gives, agree."""
    both = [seed for seed in first if seed in second]
    same = [seed for seed in both if data(first[seed]) == data(second[seed])]
    return Pairs(
        tuple(same),
        tuple(first[seed] for seed in same),
        tuple(second[seed] for seed in same),
        tuple(seed for seed in both if seed not in same),
        tuple(seed for seed in first if seed not in second),
    )


def matched(first: Row, second: Row, one: Loaded, other: Loaded | None = None) -> Pairs[Record]:
    """The records of the `ok` cells of two rows; `second` is of `other`, if given."""
    sides = ((first, one), (second, other or one))
    mine, theirs = ({seed: loaded.records[place] for seed, place in row.places.items()} for row, loaded in sides)
    return pair(mine, theirs, fingerprint)


def against(pairs: Pairs[Record], value: Value, higher_is_better: bool = True, margin: float = 0.0) -> Comparison:
    """`paired` over `value` of the two records; pairs of which one has no value are dropped and counted."""
    first, second = ([_number(value(record)) for record in side] for side in (pairs.first, pairs.second))
    return paired(first, second, higher_is_better, margin)


def primary(row: Row) -> Value:
    """The value of `row`'s primary metric in a record."""
    return lambda record: record.metrics.get(row.metric.name)


def fingerprint(record: Record) -> str | None:
    """Of the data that the record's cell saw."""
    return record.data.fingerprint if record.data else None


def decimals(metric: Metric) -> int:
    """Digits after the point that show differences of the size of the metric's margin."""
    return 2 if metric.margin >= 0.5 else 3 if metric.margin >= 0.05 else 4


def in_short(found: Comparison, unit: str = "", decimals: int = 2) -> str:
    """For instance "+0.42 % [+0.10, +0.74]"; "-" without a pair."""
    if not found.n:
        return "-"
    middle = f"{signed(found.difference, decimals)} {unit}".rstrip()
    if found.interval is None:
        return middle
    low, high = (signed(end, decimals) for end in found.interval)
    return f"{middle} [{low}, {high}]"


def with_words(found: Comparison, unit: str = "", decimals: int = 2) -> str:
    """For instance "+0.42 % [+0.10, +0.74], 6 seeds, p 0.02, seen from 0.31 % on"."""
    if not found.n:
        return "no seed that both have"
    of = f" {unit}" if unit else ""
    parts = [in_short(found, unit, decimals), plural(found.n, "seed")]
    if found.p_value is not None:
        parts.append("p < 0.001" if found.p_value < 0.001 else f"p {found.p_value:.2g}")
    if found.smallest_seen is not None:
        parts.append(f"seen from {number(found.smallest_seen, decimals)}{of} on")
    return ", ".join(parts)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
