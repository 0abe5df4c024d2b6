"""Published figures beside ours, only where the two may be compared at all.

Only figures that were found in a source are in published.csv; a figure without an axis is one whose source contradicts
itself about it, which is said wherever it is shown.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from nmbench.analysis.rows import Row
from nmbench.claims.pick import base, effective
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import number
from nmbench.plan.cell import DENSE
from nmbench.records.schema import Record
from nmbench.sparsity.pattern import NMPattern

#: (task, a data set's number of images in training and evaluation) -> its published name. The counts are the data
#: set's own: a folder's name proves nothing.
_DATA_SETS: dict[tuple[str, tuple[tuple[str, int], ...]], str] = {
    ("classification", (("train", 1_281_167), ("val", 50_000))): "imagenet-1k",
    ("optical-flow", (("chairs train", 22_232), ("chairs val", 640))): "flyingchairs",
}
#: our name of a model -> the published one, where they differ
_MODELS = {"raft_large": "raft"}


@dataclass(frozen=True)
class Figure:
    """One line of published.csv. axis: "" where the source does not settle it; dense models have none."""

    task: str
    dataset: str
    model: str
    pattern: str
    axis: str
    method: str
    metric: str
    value: float
    unit: str
    source: str
    note: str


@dataclass(frozen=True, eq=False)
class Beside:
    """A published figure and the row of ours that it is shown with. `remarks`: what differs all the same."""

    figure: Figure
    row: Row
    remarks: tuple[str, ...]


@cache
def published() -> tuple[Figure, ...]:
    """All published figures, in the order of the file."""
    lines = files("nmbench.claims").joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(Figure(value=float(line.pop("value")), **line) for line in csv.DictReader(lines))


def beside(rows: Sequence[Row], records: Sequence[Record]) -> list[Beside]:
    """Every published figure that agrees with a row that ended well, in the order of the rows.

    Only rows of a "paper" scale are asked, with the method's default settings or, in classification, the lambda_w that
    acted in the authors' runs. `records` are those of the rows.
    """
    return [
        Beside(figure, row, _remarks(figure, row))
        for row in rows
        if any(map(math.isfinite, row.values)) and row.setting.scale.split("-")[0] == "paper"
        if row.hyper == "{}" or _as_it_acted(row)
        for figure in published()
        if _agrees(figure, row, [records[place] for place in row.records])
    ]


def _as_it_acted(row: Row) -> bool:
    """Only their ImageNet launch sums over ranks."""
    return row.setting.task == "classification" and effective([row]) and list(json.loads(row.hyper)) == ["lambda_w"]


def _agrees(figure: Figure, row: Row, records: Sequence[Record]) -> bool:
    model = _MODELS.get(row.setting.model, row.setting.model)
    ours = (row.setting.task, model, base(row.pattern) or DENSE, row.method, row.metric.name, row.metric.unit)
    theirs = (figure.task, figure.model, figure.pattern, figure.method, figure.metric, figure.unit)
    same_axis = row.pattern is None or not figure.axis or figure.axis == getattr(row.pattern, "axis", "")
    return ours == theirs and same_axis and all(_data_set(record) == figure.dataset for record in records)


def _data_set(record: Record) -> str | None:
    """The published name of the data that a record was trained and evaluated on, None where it is not known."""
    counts = record.data.counts if record.data else {}
    return _DATA_SETS.get((record.cell.task, tuple(sorted(counts.items()))))


def _remarks(figure: Figure, row: Row) -> tuple[str, ...]:
    found = []
    if isinstance(row.pattern, NMPattern) and not figure.axis:
        found.append(f"the published axis is not settled, ours is {row.pattern.axis}")
    if _as_it_acted(row):
        found.append("ours with the lambda_w that acted in the authors' runs")
    if row.setting.training:
        found.append(f"ours with {row.setting.training}")
    if row.setting.init:
        found.append(f"ours from the initial weights {row.setting.init}")
    return (*found, *((figure.note,) if figure.note else ()))


def published_table(shown: Sequence[Beside]) -> Table:
    """One row a published figure, with our mean over the seeds."""
    columns = (
        Column("model", "Model"),
        Column("pattern", "Pattern"),
        Column("method", "Method"),
        Column("metric", "Metric"),
        Column("published", "Published", "r"),
        Column("ours", "Ours", "r"),
        Column("seeds", "Seeds", "r"),
        Column("source", "Source"),
        Column("remarks", "Remarks"),
    )
    notes = ("A published figure is one run on other machines, seldom with its seeds: it is shown, not compared.",)
    return Table("published", "Published figures", columns, tuple(_cells(one) for one in shown), notes, keys=4)


def _cells(one: Beside) -> tuple[Cell, ...]:
    figure, row = one.figure, one.row
    values = [value for value in row.values if math.isfinite(value)]
    mean = sum(values) / len(values)
    return (
        Cell(row.setting.model),
        Cell(row.pattern_text),
        Cell(row.method),
        Cell(f"{figure.metric} ({figure.unit})"),
        Cell(number(figure.value, 2), figure.value),
        Cell(number(mean, 2), mean),
        Cell(str(len(values)), len(values)),
        Cell(figure.source),
        Cell("; ".join(one.remarks)),
    )
