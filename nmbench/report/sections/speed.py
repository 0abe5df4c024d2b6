"""Measured speeds: one forward pass of each model, dense and converted (nmbench.worker.speed)."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block
from nmbench.document.table import Cell, Column, Table, filled, numeric
from nmbench.document.words import plural
from nmbench.records.schema import Speed, SpeedRow
from nmbench.report.sections.quality import NAMES, names

_COLUMNS = (
    *NAMES,
    Column("device", "Device"),
    Column("dtype", "Dtype"),
    Column("batch", "Batch", "r"),
    Column("dense", "Dense", "r", "ms"),
    Column("converted", "Converted", "r", "ms"),
    Column("ratio", "Dense over converted", "r"),
    Column("throughput", "Converted, examples a second", "r"),
    Column("layers", "Sparse layers", "r"),
)
_WHAT = (
    "Time is that of one forward pass, the median of passes that take turns; both models have the same masked weights. "
    "Only a ratio above 1 is a gain. Means are over the seeds, that of ratios geometric."
)
_CPU = "On a CPU dense is the fastest of the engines that were tried ({engines}), {threads}, and time is {time}."
_BRIEF = "Measured in brief, once for each model and pattern; `nmbench run --speed` measures each cell at length."
_GRAPH = "The passes were replayed as CUDA graphs: what Python takes to launch kernels is not in the time."


@dataclass
class _Group:
    """What was measured for one row at one batch size, on one device, with one dtype: a value a seed."""

    dense: list[float] = field(default_factory=list)
    converted: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    layers: set[str] = field(default_factory=set)


def speed(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """The rows of one setting at each batch size; devices and dtypes are never mixed."""
    body, hows = [], set()
    sections: list[Speed] = []
    for row in rows:
        groups: dict[tuple[str, str, int], _Group] = {}
        own = [record.speed for record in study.records_of(row) if record.speed and record.speed.rows]
        sections += own
        for speed in own:
            for timed in speed.rows:
                key = (str(speed.device), str(speed.dtype), timed.batch)
                _add(groups.setdefault(key, _Group()), timed, speed)
                hows |= set(str(speed.how).split(", "))
        body += [(*names(row), *_cells(key, group)) for key, group in sorted(groups.items())]
    if body:
        notes = [_WHAT, *([_GRAPH] if "cuda-graph" in hows else []), *_on_cpu(sections)]
        notes += [_BRIEF] if any(one.brief for one in sections) else []
        yield filled(Table("speed", "Measured speed of inference", _COLUMNS, tuple(body), tuple(notes), keys=2))


def _on_cpu(sections: Sequence[Speed]) -> list[str]:
    """What dense and time mean there."""
    own = [one for one in sections if one.type == "cpu"]
    if not own:
        return []
    engines = sorted({name for one in own for timed in one.rows for name in timed.engines} or {"eager"})
    most = max(one.threads or 1 for one in own)
    time = "that of the thread" if most == 1 else "the clock's, or the thread's where there is one"
    return [_CPU.format(engines=", ".join(engines), threads=plural(most, "thread"), time=time)]


def _add(group: _Group, timed: SpeedRow, speed: Speed) -> None:
    group.dense += [timed.dense_ms] if timed.dense_ms else []
    group.converted += [timed.converted_ms] if timed.converted_ms else []
    group.ratios += [timed.ratio] if timed.ratio else []
    layers = [line for line in speed.layers if line.get("batch") == timed.batch]
    if layers:
        sparse = sum(line.get("winner", "dense") != "dense" for line in layers)
        group.layers.add(f"{sparse} of {len(layers)}")


def _cells(key: tuple[str, str, int], group: _Group) -> tuple[Cell, ...]:
    device, dtype, batch = key
    ratio = statistics.geometric_mean(group.ratios) if group.ratios else None
    seeds = f" ({plural(len(group.ratios), 'seed')})" if len(group.ratios) > 1 else ""
    dense, converted = (statistics.fmean(times) if times else None for times in (group.dense, group.converted))
    return (
        Cell(device),
        Cell(dtype),
        Cell(str(batch), batch),
        numeric(dense, "{:.4g}".format),
        numeric(converted, "{:.4g}".format),
        numeric(ratio, lambda value: f"{value:.3f}{seeds}"),
        numeric(converted and 1e3 * batch / converted, "{:.4g}".format),
        Cell(" / ".join(sorted(group.layers)) or "-"),
    )
