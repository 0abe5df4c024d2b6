"""The figures of one task: quality against density, SAD through training, training curves.

`draw` makes all three; a figure that has nothing to show is left out, in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nmbench.record import Record
from nmbench.report.compare import Row
from nmbench.report.panels import Drawn, row_label, style_sheet, styles
from nmbench.report.quality_figure import quality
from nmbench.report.training_figures import curves, sad

__all__ = ["draw"]


def draw(stem: str, rows: Sequence[Row], records: Sequence[Record], folder: Path) -> list[Drawn]:
    """Write `<stem>-quality.png`, `-sad.png` and `-curves.png` of one task's rows into `folder`."""
    look = styles(row_label(row) for row in rows)
    with style_sheet():
        return [
            quality(rows, look, folder / f"{stem}-quality.png"),
            sad(rows, records, look, folder / f"{stem}-sad.png"),
            curves(rows, records, look, folder / f"{stem}-curves.png"),
        ]
