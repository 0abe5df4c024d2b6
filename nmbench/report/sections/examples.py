"""Evaluation examples, the dense answer beside those of the sparse models: texts in a table, images in a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.contract.samples import FILE, Sample, Shown, read
from nmbench.document.model import Block, Bullets
from nmbench.document.model import Picture as Drawn
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import text
from nmbench.report.style import file_of

Picture = tuple[str, NDArray[np.uint8]]

_COLUMNS = (Column("example", "Example"), Column("who", ""), Column("text", "Text"))
_IMAGES = 4  # in a line of images
_MOST = 3  # samples in a figure
_INCHES = 9.4  # width of a full line of images


@dataclass(frozen=True)
class _Answer:
    """The samples of one row: those of its smallest seed, or of the dense twin's where it has that one."""

    name: str
    samples: tuple[Sample, ...]


def examples(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """A table of the texts, a figure of the images, and in words which samples cannot be read."""
    answers, broken = _answers(study, rows)
    names = list(dict.fromkeys(sample.name for answer in answers for sample in answer.samples))
    if lines := tuple(line for name in names for line in _lines(name, answers)):
        yield Table("answers", "Examples", _COLUMNS, lines, keys=2, sortable=False)
    pictures = {name: shown for name in names if (shown := _pictures(name, answers))}
    if pictures:
        chosen = dict(list(pictures.items())[:_MOST])
        path = file_of(study, rows, "examples")
        # no SVG: it would hold the same pixels
        _figure(chosen).savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
        caption = f"{', '.join(chosen)}: what was given, and what each model made of it."
        yield Drawn(path.name, "Examples", study.titles[rows[0].setting], caption)
    if broken:
        words = (f"The examples of {text(name)} cannot be shown: {text(why)}." for name, why in broken.items())
        yield Bullets(tuple(words))


def _answers(study: Study, rows: Sequence[Row]) -> tuple[list[_Answer], dict[str, str]]:
    """Those that can be read, and why the others cannot."""
    first = next((min(row.seeds) for row in rows if row.is_dense and row.seeds), None)
    answers, broken = [], {}
    for row in (row for row in rows if row.seeds):
        seed = first if first in row.seeds else min(row.seeds)
        file = study.loaded.folders[row.places[seed]] / FILE
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


def _figure(pictures: dict[str, list[Picture]]) -> Figure:
    """One block of images a sample, four in a row (five, where one would stand alone), at their own proportions."""
    most = max(map(len, pictures.values()))
    columns = most if most <= _IMAGES + 1 else _IMAGES
    inches = _INCHES / max(columns, _IMAGES)
    blocks = [shown[i : i + columns] for shown in pictures.values() for i in range(0, len(shown), columns)]
    heights = [max(image.shape[0] / image.shape[1] for _, image in shown) for shown in blocks]
    figure = Figure(figsize=(inches * columns, sum(inches * height + 0.3 for height in heights)), dpi=110)
    grid = figure.subplots(len(blocks), columns, squeeze=False, height_ratios=heights)
    for line, shown in zip(grid, blocks, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, (title, image) in zip(line, shown, strict=False):
            axis.imshow(image, interpolation="nearest")
            axis.set_title(title, fontsize=8)
    return figure
