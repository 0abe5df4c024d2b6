"""The figures of a report. A figure that has nothing to show is left out, in words.

draw           those of one task
draw_overall   those over all tasks
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nmbench.analysis.rows import Row
from nmbench.records.schema import Record
from nmbench.report.panels import Drawn, style_sheet, styles
from nmbench.report.sections.cost_figure import cost
from nmbench.report.sections.forest import forest
from nmbench.report.sections.heat_map import methods_by_patterns, patterns_by_tasks
from nmbench.report.sections.layers import layers
from nmbench.report.sections.quality_figure import quality
from nmbench.report.sections.training import curves, sad

__all__ = ["draw", "draw_overall"]


def draw(stem: str, rows: Sequence[Row], records: Sequence[Record], folder: Path) -> list[Drawn]:
    """Write the figures of one task's rows into `folder`, as `<stem>-<figure>.png` and `.svg`.

    Equal records give equal bytes. However many rows there are, a figure stays small enough to be read, and its
    caption says what it leaves out.
    """
    look = styles(rows)
    with _records_set_aside(), style_sheet():
        return [
            quality(rows, look, folder / f"{stem}-quality.png"),
            forest(rows, folder / f"{stem}-forest.png"),
            methods_by_patterns(rows, folder / f"{stem}-methods.png"),
            cost(rows, look, folder / f"{stem}-cost.png"),
            sad(rows, records, look, folder / f"{stem}-sad.png"),
            layers(rows, records, look, folder / f"{stem}-layers.png"),
            curves(rows, records, look, folder / f"{stem}-curves.png"),
        ]


def draw_overall(rows: Sequence[Row], folder: Path) -> list[Drawn]:
    """Write the figures over all tasks into `folder`: `overall-patterns.png` and `.svg`."""
    with style_sheet():
        return [patterns_by_tasks(rows, folder / "overall-patterns.png")]


@contextmanager
def _records_set_aside() -> Iterator[None]:
    """Figures leave much garbage; without this, each collection of it would walk through all records again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
