"""Two rows of a report side by side, seed by seed: what the claims and the comparison of two result sets judge by.

Matched     the cells of two rows that may be compared, by seed
matched     pairs the cells of two rows
against     the paired comparison of some value of theirs
in_short, with_words    what a comparison found, in words with numbers
decimals    digits after the point for a metric
LEAST       seeds below which nothing is decided
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison, paired
from nmbench.contract.spec import Metric
from nmbench.document.words import number, plural, signed
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["LEAST", "Matched", "Value", "against", "decimals", "in_short", "matched", "with_words"]

#: with two seeds the interval is 12.7 standard errors wide to each side: a verdict read off it is luck
LEAST = 3

#: a number of one record, None where the record does not have it
Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Matched:
    """Records of two rows, seed by seed, and the seeds that were left out because the two saw different data."""

    seeds: tuple[int, ...]
    first: tuple[Record, ...]
    second: tuple[Record, ...]
    other_data: tuple[int, ...] = ()

    def keep(self, wanted: Callable[[Record, Record], bool]) -> Matched:
        """Only the pairs of which `wanted` is true."""
        kept = [trio for trio in zip(self.seeds, self.first, self.second, strict=True) if wanted(*trio[1:])]
        return Matched(
            tuple(seed for seed, _, _ in kept),
            tuple(one for _, one, _ in kept),
            tuple(other for _, _, other in kept),
            self.other_data,
        )


def matched(first: Row, second: Row, one: Loaded, other: Loaded | None = None) -> Matched:
    """The `ok` cells of one seed in both rows whose data fingerprints agree; `second` is of `other`, if given."""
    mine = {seed: one.records[place] for seed, place in zip(first.seeds, first.records, strict=True)}
    theirs_of = (other or one).records
    theirs = {seed: theirs_of[place] for seed, place in zip(second.seeds, second.records, strict=True)}
    both = [seed for seed in mine if seed in theirs]
    same = [seed for seed in both if _data(mine[seed]) == _data(theirs[seed])]
    return Matched(
        tuple(same),
        tuple(mine[seed] for seed in same),
        tuple(theirs[seed] for seed in same),
        tuple(seed for seed in both if seed not in same),
    )


def against(pairs: Matched, value: Value, higher_is_better: bool = True, margin: float = 0.0) -> Comparison:
    """`paired` over `value` of the two records; pairs of which one has no value are dropped and counted."""
    first, second = ([_number(value(record)) for record in side] for side in (pairs.first, pairs.second))
    return paired(first, second, higher_is_better, margin)


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
    said = [in_short(found, unit, decimals), plural(found.n, "seed")]
    if found.p_value is not None:
        said.append("p < 0.001" if found.p_value < 0.001 else f"p {found.p_value:.2g}")
    if found.smallest_seen is not None:
        said.append(f"seen from {number(found.smallest_seen, decimals)}{of} on")
    return ", ".join(said)


def _data(record: Record) -> str | None:
    fingerprint: str | None = (record.get("data") or {}).get("fingerprint")
    return fingerprint


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
