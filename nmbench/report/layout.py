"""Where things stand in a figure, in inches, and how it is saved.

grid        a figure with rows and columns of axes
panels      one set of axes a title, up to three side by side
name, heading       a title of axes, and of the figure
inches      the height of axes
label_y     one label for the y axes at the left edge
save        the legend below, then PNG and SVG, byte-equal for equal figures

All sizes are set here: matplotlib's automatic layouts draw a figure several times to measure its texts, which would be
most of the time that a report takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from nmbench.report.panels import shorten

__all__ = ["MOST_PANELS", "grid", "heading", "inches", "label_y", "name", "panels", "save"]

#: panels in one figure
MOST_PANELS = 6
_DPI = 150
_LEGEND_LINE = 0.19  # inches


def grid(
    heights: Sequence[float],
    columns: int,
    width: float,
    *,
    left: float = 0.75,
    right: float = 0.12,
    top: float = 0.3,
    bottom: float = 0.5,
    gap: float = 0.15,
    shared_y: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """One line of axes a height, `columns` in each, all sizes in inches.

    left, right: for the texts at the figure's edges. top, bottom: of every line, for titles and x labels. gap: between
    columns. width: of the whole figure.
    """
    total = sum(heights) + len(heights) * (top + bottom)
    figure = Figure(figsize=(width, total), dpi=_DPI)
    each = (width - left - right - gap * (columns - 1)) / columns
    lines: list[list[Axes]] = []
    y = total
    for height in heights:
        y -= top + height
        line: list[Axes] = []
        for column in range(columns):
            share = (lines[0][0] if lines else line[0] if line else None) if shared_y else None
            place = ((left + column * (each + gap)) / width, y / total, each / width, height / total)
            axis = figure.add_axes(place, sharey=share)
            if column and shared_y:
                axis.tick_params(labelleft=False)
            axis.locator_params(nbins=5)
            axis.xaxis.set_label_coords(0.5, -(bottom - 0.25) / height)
            axis.yaxis.set_label_coords(-(left - 0.2) / each, 0.5)
            line.append(axis)
        lines.append(line)
        y -= bottom
    return figure, lines


def panels(titles: Sequence[str], shared: bool = True, bottom: float = 0.5) -> tuple[Figure, list[Axes]]:
    """One set of axes a title, up to three a line, on one y scale if `shared`; no pyplot, nothing global changes."""
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    width = {1: 6.0, 2: 8.0, 3: 9.6}[columns]
    top = 0.3 if any(titles) else 0.12
    gap = 0.15 if shared else 0.5
    figure, lines = grid([2.1] * rows, columns, width, top=top, bottom=bottom, gap=gap, shared_y=shared)
    axes = [axis for line in lines for axis in line]
    for spare in axes[len(titles) :]:
        spare.remove()
    for axis, title in zip(axes, titles, strict=False):
        name(axis, title)
    return figure, axes[: len(titles)]


def name(axis: Axes, title: str) -> None:
    """Give the axes a title, where they have one; its place is fixed, since finding one takes long."""
    if title:
        axis.set_title(title, fontsize=9, y=1 + 0.06 / inches(axis))


def inches(axis: Axes) -> float:
    """The height of the axes."""
    figure = axis.get_figure(root=True)
    return float(axis.get_position().height * figure.get_figheight()) if figure else 1.0


def label_y(axes: Sequence[Axes], text: str) -> None:
    """Label the axes at the left edge of their figure."""
    edge = min(axis.get_position().x0 for axis in axes)
    for axis in axes:
        if axis.get_position().x0 < edge + 1e-6:
            axis.set_ylabel(text)


def save(figure: Figure, axes: Sequence[Axes], path: Path) -> None:
    """Put one legend for all `axes` below the figure; write it as PNG to `path` and as SVG beside it."""
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        # a name longer than the figure would be cut at both ends
        handles = {shorten(text, int(11 * figure.get_figwidth()) - 7): handle for text, handle in handles.items()}
        # about 12 characters an inch at this size, and 7 for the line beside a name
        columns = int(12 * figure.get_figwidth() / (max(map(len, handles)) + 7))
        columns = max(1, min(columns, len(handles)))
        lines = -(-len(handles) // columns)
        _grow(figure, below=_LEGEND_LINE * lines + 0.12)
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="lower center",
            bbox_to_anchor=(0.5, 0.03 / figure.get_figheight()),
            borderpad=0,
            ncols=columns,
        )
    _png(figure, path)
    # matplotlib would write the date and its version into it
    figure.savefig(path.with_suffix(".svg"), format="svg", metadata={"Date": None, "Creator": None})


def _png(figure: Figure, path: Path) -> None:
    """With a palette of 256 colours: a third of the size, which counts where reports are committed."""
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # this method keeps white white and changes no colour by what an eye can see
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(path, "png", dpi=(_DPI, _DPI))


def heading(figure: Figure, text: str) -> None:
    """One line above everything that is there."""
    _grow(figure, above=0.28)
    figure.text(0.5, 1 - 0.18 / figure.get_figheight(), text, fontsize=9, ha="center", va="center")


def _grow(figure: Figure, below: float = 0.0, above: float = 0.0) -> None:
    """Make room around what is there, in inches."""
    width, height = figure.get_size_inches()
    total = height + below + above
    figure.set_size_inches(width, total)
    for axis in figure.axes:
        box = axis.get_position()
        axis.set_position((box.x0, (box.y0 * height + below) / total, box.width, box.height * height / total))
