"""Evaluation examples, the dense model's answer beside those of the sparse ones: texts in a table, images in a figure.

Gallery     what a page shows of one setting
gallery     reads `samples.json` of one cell a row and writes the figure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nmbench.analysis.rows import Row
from nmbench.contract.samples import FILE, Sample, Shown, read
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import text
from nmbench.report.panels import Drawn, style_sheet

__all__ = ["Gallery", "gallery"]

Picture = tuple[str, NDArray[np.uint8]]

_COLUMNS = (Column("example", "Example"), Column("who", ""), Column("text", "Text"))
_IMAGES = 4  # in a line of images
_MOST = 3  # samples in a figure
_INCHES = 9.4  # width of a full line of images


@dataclass(frozen=True)
class Gallery:
    """`texts` and `figure` are None where there are none; `remarks`: what could not be shown, as inline markdown."""

    texts: Table | None
    figure: Drawn | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Answer:
    """The samples of one row: those of its smallest seed, or of the dense twin's where it has that one."""

    name: str
    samples: tuple[Sample, ...]


def gallery(rows: Sequence[Row], folders: Sequence[Path], path: Path) -> Gallery:
    """The samples of one setting's rows; `folders[i]` is the attempt folder of record i, `path` that of the figure."""
    answers, broken = _answers(rows, folders)
    remarks = tuple(f"The examples of {text(name)} cannot be shown: {text(why)}." for name, why in broken.items())
    if not answers:
        return Gallery(None, None, remarks)
    names = list(dict.fromkeys(sample.name for answer in answers for sample in answer.samples))
    lines = tuple(line for name in names for line in _lines(name, answers))
    texts = Table("answers", "Examples", _COLUMNS, lines, keys=2, sortable=False) if lines else None
    pictures = {name: shown for name in names if (shown := _pictures(name, answers))}
    chosen = dict(list(pictures.items())[:_MOST])
    return Gallery(texts, _draw(chosen, path) if chosen else None, remarks)


def _answers(rows: Sequence[Row], folders: Sequence[Path]) -> tuple[list[_Answer], dict[str, str]]:
    first = next((min(row.seeds) for row in rows if row.is_dense and row.seeds), None)
    answers, broken = [], {}
    for row in rows:
        if not row.seeds:
            continue
        seed = first if first in row.seeds else min(row.seeds)
        file = folders[dict(zip(row.seeds, row.records, strict=True))[seed]] / FILE
        name = row.name + (f" (seed {seed})" if seed != first and first is not None else "")
        if not file.exists():
            continue
        try:
            answers.append(_Answer(name, tuple(read(file))))
        except (OSError, ValueError) as error:
            broken[name] = str(error)
    return answers, broken


def _all(name: str, answers: Sequence[_Answer]) -> list[tuple[str, Shown]]:
    """What is shown of a sample, with its titles: what was given, as the first answer has it, then every answer."""
    shown: list[tuple[str, Shown]] = []
    for answer in answers:
        for sample in answer.samples:
            if sample.name == name:
                shown = shown or list(sample.given.items())
                many = len(sample.output) > 1
                shown += [
                    (f"{answer.name}: {key}" if many else answer.name, value) for key, value in sample.output.items()
                ]
    return shown


def _lines(name: str, answers: Sequence[_Answer]) -> list[tuple[Cell, ...]]:
    texts = [(title, value) for title, value in _all(name, answers) if isinstance(value, str)]
    return [(Cell(name if i == 0 else "", name), Cell(title), Cell(value)) for i, (title, value) in enumerate(texts)]


def _pictures(name: str, answers: Sequence[_Answer]) -> list[Picture]:
    return [(title, value) for title, value in _all(name, answers) if not isinstance(value, str)]


def _draw(pictures: dict[str, list[Picture]], path: Path) -> Drawn:
    """One block of images a sample, four in a row (five, where one would stand alone), at their own proportions."""
    most = max(map(len, pictures.values()))
    columns = most if most <= _IMAGES + 1 else _IMAGES
    inches = _INCHES / max(columns, _IMAGES)
    blocks = [(name, shown[i : i + columns]) for name, shown in pictures.items() for i in range(0, len(shown), columns)]
    heights = [max(image.shape[0] / image.shape[1] for _, image in shown) for _, shown in blocks]
    with style_sheet():
        size = (inches * columns, sum(inches * height + 0.3 for height in heights))
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        grid = figure.subplots(len(blocks), columns, squeeze=False, height_ratios=heights)
        for line, (_, shown) in zip(grid, blocks, strict=True):
            for axis in line:
                axis.set_axis_off()
            for axis, (title, image) in zip(line, shown, strict=False):
                axis.imshow(image, interpolation="nearest")
                axis.set_title(title, fontsize=8)
        figure.savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return Drawn(path.name, "Examples", f"{', '.join(pictures)}: what was given, and what each model made of it.")
