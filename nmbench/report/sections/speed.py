"""The table of measured speeds: one forward pass of each model, dense and converted (nmbench.worker.speed).

speed_table    rows and records -> Table, or None where no speed was measured
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nmbench.analysis.rows import Row
from nmbench.document.table import Cell, Column, Table, filled
from nmbench.document.words import plural
from nmbench.records.schema import Record
from nmbench.report.sections.tables import NAMES, names

__all__ = ["speed_table"]

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
_WALL = "On a CPU no sparse kernel applies, so that only the dense time is there."
_GRAPH = "The passes were replayed as CUDA graphs: what Python takes to launch kernels is not in the time."


@dataclass
class _Group:
    """What was measured for one row at one batch size, on one device, with one dtype: a value a seed."""

    dense: list[float] = field(default_factory=list)
    converted: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    layers: set[str] = field(default_factory=set)


def speed_table(rows: Sequence[Row], records: Sequence[Record]) -> Table | None:
    """The rows of one setting at each batch size; devices and dtypes are never mixed."""
    body, hows, types = [], set(), set()
    for row in rows:
        groups: dict[tuple[str, str, int], _Group] = {}
        for record in (records[place] for place in row.records):
            speed = record.get("speed") or {}
            for timed in speed.get("rows") or []:
                key = (str(speed.get("device")), str(speed.get("dtype")), int(timed["batch"]))
                _add(groups.setdefault(key, _Group()), timed, speed)
                hows |= set(str(speed.get("how")).split(", "))
                types.add(speed.get("type"))
        body += [(*names(row), *_cells(key, group)) for key, group in sorted(groups.items())]
    if not body:
        return None
    notes = [_WHAT, *([_GRAPH] if "cuda-graph" in hows else []), *([_WALL] if "cpu" in types else [])]
    return filled(Table("speed", "Measured speed of inference", _COLUMNS, tuple(body), tuple(notes), keys=2))


def _add(group: _Group, timed: Mapping[str, Any], speed: Mapping[str, Any]) -> None:
    for key, values in (("dense_ms", group.dense), ("converted_ms", group.converted), ("ratio", group.ratios)):
        if timed.get(key):
            values.append(float(timed[key]))
    told = [line for line in speed.get("layers") or [] if line.get("batch") == timed["batch"]]
    if told:
        sparse = sum(line.get("winner", "dense") != "dense" for line in told)
        group.layers.add(f"{sparse} of {len(told)}")


def _cells(key: tuple[str, str, int], group: _Group) -> tuple[Cell, ...]:
    device, dtype, batch = key
    ratio = math.exp(statistics.fmean(map(math.log, group.ratios))) if group.ratios else None
    seeds = len(group.ratios)
    shown = "-" if ratio is None else f"{ratio:.3f}" + (f" ({plural(seeds, 'seed')})" if seeds > 1 else "")
    rate = 1e3 * batch / statistics.fmean(group.converted) if group.converted else None
    return (
        Cell(device),
        Cell(dtype),
        Cell(str(batch), batch),
        _mean(group.dense),
        _mean(group.converted),
        Cell(shown, ratio),
        Cell("-") if rate is None else Cell(f"{rate:.4g}", rate),
        Cell(" / ".join(sorted(group.layers)) or "-"),
    )


def _mean(values: Sequence[float]) -> Cell:
    if not values:
        return Cell("-")
    mean = statistics.fmean(values)
    return Cell(f"{mean:.4g}", mean)
