"""Figures that plugins took of every cell (the entry-point group `nmbench.measurements`), a column each.

measurements    block of a setting, where any was taken
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block
from nmbench.document.table import Cell, Column, Table
from nmbench.report.sections.quality import NAMES, names

__all__ = ["measurements"]


def measurements(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """The mean of each measurement over the seeds of a row."""
    taken = [(row, [taken for record in study.records_of(row) for taken in record.measurements]) for row in rows]
    units = {one.name: one.unit for _, values in taken for one in values}
    if not units:
        return
    columns = (*NAMES, *(Column(name, name, "r", unit) for name, unit in sorted(units.items())))
    body = tuple(
        (*names(row), *(_mean([one.value for one in values if one.name == name]) for name in sorted(units)))
        for row, values in taken
        if values
    )
    notes = ("Means over the seeds, of what plugins measured after evaluation.",)
    yield Table("measurements", "Other measurements", columns, body, notes, keys=2)


def _mean(values: Sequence[float | None]) -> Cell:
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return Cell("-") if mean is None else Cell(f"{mean:.4g}", mean)
