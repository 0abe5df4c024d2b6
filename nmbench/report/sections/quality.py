"""Quality: a setting's tables of values, differences and verdicts."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.analysis.verdict import Lack, Verdict
from nmbench.document.model import Block
from nmbench.document.table import Cell, Column, Table, numeric
from nmbench.document.words import NBSP, number, percent, plural, signed, text

#: the columns that name a row; `names` has their cells
NAMES = (Column("pattern", "Pattern"), Column("method", "Method"))
#: below this share of weights in sparse layers a model is called mostly dense
_MOSTLY = 0.5


def names(row: Row) -> tuple[Cell, Cell]:
    """Pattern and method of a row, as cells."""
    return Cell(row.pattern_text), Cell(row.method_text)


def compared(rows: Iterable[Row]) -> list[Row]:
    """Those that have a difference to their dense twin."""
    return [row for row in rows if row.comparison is not None and row.comparison.n]


def finite(row: Row) -> list[float]:
    """The row's values that are numbers."""
    return [value for value in row.values if math.isfinite(value)]


def counted(counts: Iterable[int]) -> str:
    """ "3 seeds", or "1 to 6 seeds" where rows differ; rows without any do not count."""
    known = sorted({*counts} - {0}) or [0]
    return plural(known[0], "seed") if len(known) == 1 else f"{known[0]} to {known[-1]} seeds"


def seeds_in_words(rows: Iterable[Row]) -> str:
    """ "one seed", or "mean over 3 seeds"."""
    seeds = counted(len(finite(row)) for row in rows)
    return "one seed" if seeds == "1 seed" else f"mean over {seeds}"


def table(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Mean of the primary metric with the standard deviation over seeds, difference to the dense twin, verdict."""
    metric, decimals = rows[0].metric, _decimals(rows)
    columns = (
        *NAMES,
        Column("seeds", "Seeds", "r"),
        Column("density", "Density", "r"),
        Column("value", f"{metric.name or 'metric'} {_arrow(metric.higher_is_better)}", "r", metric.unit),
        Column("difference", "Difference [95 %]", "r"),
        Column("verdict", "Verdict"),
    )
    body = tuple(
        (*names(row), _seeds(row), _density(row), _mean(row, decimals), _gap(row, decimals), _verdict(row))
        for row in rows
    )
    margin = f"{metric.margin:g} {metric.unit}".strip() if metric.margin else "0"
    direction = "higher" if metric.higher_is_better else "lower"
    about = f"The verdict is on {text(metric.name)} ({direction} is better), with a margin of {text(margin)}."
    notes = tuple(
        f"{text(row.pattern_text)} {text(row.method_text)}: {text(note)}."
        for row in rows
        for note in (*row.notes, *_mostly_dense(study, row))
    )
    yield Table("quality", "Quality", columns, body, (*([about] if metric.name else []), *notes), keys=2)


def others(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Means over the seeds of every metric but the primary one, and of what plugins measured of every cell."""
    good = [row for row in rows if row.seeds]
    metrics: dict[str, Column] = {}
    measured: dict[str, Column] = {}
    for record in (record for row in good for record in study.records_of(row)):
        for info in record.metric_info:
            if info.name != rows[0].metric.name:
                column = Column(info.name, f"{info.name} {_arrow(info.higher_is_better)}", "r", info.unit)
                metrics.setdefault(f"metric.{info.name}", column)
        for one in record.measurements:
            measured.setdefault(f"measurement.{one.name}", Column(one.name, one.name, "r", one.unit))
    for name, title, shown in (("other-metrics", "Other metrics", metrics), ("measurements", "Measurements", measured)):
        if shown:
            body = tuple(
                (*names(row), *(numeric(row.means.get(key), "{:.4g}".format) for key in shown)) for row in good
            )
            yield Table(name, title, (*NAMES, *shown.values()), body, keys=2)


def by_verdict(row: Row) -> tuple[int, int]:
    """Sorts rows as their verdicts are counted and listed; those that lack something come last of their kind."""
    return list(Verdict).index(row.verdict or Verdict.UNDECIDED), list(Lack).index(row.lack) + 1 if row.lack else 0


def _verdict(row: Row) -> Cell:
    decided = row.verdict not in (None, Verdict.UNDECIDED)
    return Cell(row.words.replace("1 seed", f"1{NBSP}seed"), strong=decided)


def _gap(row: Row, decimals: int) -> Cell:
    """The paired difference to the dense twin with its interval."""
    found = row.comparison
    return difference(found.difference, found.interval, decimals) if found and found.n else Cell("-")


def difference(value: float, interval: tuple[float, float] | None, decimals: int) -> Cell:
    """ "+0.42 [+0.10, +0.74]", on one line."""
    if interval is None:
        return Cell(signed(value, decimals), value)
    ends = f",{NBSP}".join(signed(end, decimals) for end in interval)
    parts = tuple(zip(("low", "high"), interval, strict=True))
    return Cell(f"{signed(value, decimals)}{NBSP}[{ends}]", value, parts=parts)


def _seeds(row: Row) -> Cell:
    good = len(row.seeds)
    shown = str(good) if good == row.cells else f"{good} of {row.cells}"
    return Cell(shown, good, parts=(("cells", row.cells),))


def _density(row: Row) -> Cell:
    return numeric(1.0 if row.is_dense and row.seeds else row.means.get("density"), percent)


def _mostly_dense(study: Study, row: Row) -> Iterator[str]:
    """What a verdict is hardly about: a model most of whose candidate weights stayed dense."""
    shares = []
    for record in () if row.is_dense else study.records_of(row):
        layers = record.audit.layers if record.audit else []
        weights = [(math.prod(layer.shape), layer.role == "sparse") for layer in layers if layer.shape]
        if total := sum(size for size, _ in weights):
            shares.append(sum(size for size, sparse in weights if sparse) / total)
    if shares and min(shares) < _MOSTLY:
        yield f"mostly dense: only {percent(min(shares))} of the candidate weights are in sparse layers"


def _mean(row: Row, decimals: int) -> Cell:
    values = finite(row)
    if not values:
        return Cell("-")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Cell(number(mean, decimals), mean)
    sd = statistics.stdev(values)
    return Cell(f"{number(mean, decimals)}{NBSP}±{NBSP}{number(sd, decimals)}", mean, parts=(("sd", sd),))


def _arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def _decimals(rows: Sequence[Row]) -> int:
    """Decimals for the metric's column: about four digits of its largest value."""
    largest = max((abs(value) for row in rows for value in finite(row)), default=0.0)
    return 2 if largest >= 10 else 3 if largest >= 1 else 4
