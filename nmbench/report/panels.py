"""How every figure looks: size, colours, markers, panels; and how it is saved.

Style     colour, marker and line of one method
styles    the style of each method of a task, the same in all its figures
panels    a figure with one set of axes a title
save      legend and PNG file, byte-equal for equal figures
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from nmbench.report.compare import Row, Setting
from nmbench.report.words import label

__all__ = ["Drawn", "Style", "full_label", "panels", "row_label", "save", "setting_title", "style_sheet", "styles"]

# Okabe and Ito's palette without its yellow, which is too pale for thin lines on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_LINES = ("-", "--", "-.", ":")
_SHEET = {
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "nmbench",
}
_DPI = 150


@dataclass(frozen=True)
class Drawn:
    """One figure: its file name, or None where there was nothing to draw; what it shows, or why it is missing."""

    file: str | None
    title: str
    caption: str


@dataclass(frozen=True)
class Style:
    """Colour, marker and line style, in matplotlib's words."""

    colour: str
    marker: str
    line: str = "-"


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each label, none alike: colours, markers and lines repeat at different lengths. "dense" is black."""
    others = sorted(set(labels) - {"dense"})
    chosen = {"dense": Style("black", "*", "--")}
    for index, name in enumerate(others):
        line = _LINES[index // len(_COLOURS) % len(_LINES)]
        chosen[name] = Style(_COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)], line)
    return chosen


@contextmanager
def style_sheet() -> Iterator[None]:
    """matplotlib's own defaults with this report's on top, whatever the reader's matplotlibrc says."""
    with matplotlib.style.context(["default", _SHEET]):
        yield


def row_label(row: Row) -> str:
    """The row's name in a legend: "dense", or the method with its settings."""
    return "dense" if row.pattern == "dense" else label(row.method, row.hyper)


def full_label(row: Row) -> str:
    """The row's name where patterns meet: "dense", or the pattern and the method with its settings."""
    return "dense" if row.pattern == "dense" else f"{row.pattern} {row_label(row)}"


def setting_title(setting: Setting, rows: Sequence[Row]) -> str:
    """What sets this setting apart among those of the task; "" where it is the only one."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    parts = [
        getattr(setting, name)
        for name in ("model", "scale", "train", "init")
        if len({getattr(other, name) for other in settings}) > 1
    ]
    return ", ".join(part for part in parts if part not in ("", "{}"))


def panels(titles: Sequence[str], shared: bool = True) -> tuple[Figure, list[Axes]]:
    """One set of axes a title, up to three a row, on one y scale if `shared`; no pyplot, nothing global changes."""
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    width = {1: 6.0, 2: 8.0, 3: 9.6}[columns]
    figure = Figure(figsize=(width, 2.9 * rows + 0.6), dpi=_DPI, layout=ConstrainedLayoutEngine(h_pad=0.09))
    grid = figure.subplots(rows, columns, sharey=shared, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[len(titles) :]:
        spare.remove()
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title, fontsize=9)
    return figure, axes[: len(titles)]


def save(figure: Figure, axes: Sequence[Axes], path: Path) -> None:
    """Put one legend for all `axes` below the figure and write the PNG."""
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        # about 12 characters an inch at this size, and 7 for the line beside a name
        columns = int(12 * figure.get_figwidth() / (max(map(len, handles)) + 7))
        columns = max(1, min(columns, len(handles)))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    # matplotlib would write its version into the file
    figure.savefig(path, format="png", metadata={"Software": None})
