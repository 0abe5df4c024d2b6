"""How every figure looks: colours, markers, matplotlib's settings, sizes, names.

Colours are Okabe and Ito's, which no common colour blindness confuses; markers and lines tell apart what grey does not.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Picture
from nmbench.document.words import label, unused

#: panels in one figure
MOST_PANELS = 6
#: methods with their settings in one legend, the dense twin among them
_MOST_LABELS = 16
#: margins beyond which differences are drawn on a log scale
_LINEAR = 12.0

T = TypeVar("T")

# without Okabe and Ito's yellow, which is too pale for thin lines on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), ":", (0, (1, 0.6)))
#: methods that keep their colour in every report, whatever else is in it
_KNOWN = ("sr-ste", "ste", "asp", "one-shot")
_SHEET = Path(__file__).with_name("figures.mplstyle")


@dataclass(frozen=True)
class Style:
    """Colour, marker and line style, in matplotlib's words; `hollow` markers are filled with white."""

    colour: str
    marker: str
    line: Any = "-"
    hollow: bool = False

    @property
    def look(self) -> dict[str, Any]:
        """What matplotlib calls all this but the line."""
        return {"color": self.colour, "marker": self.marker, "mfc": "white" if self.hollow else self.colour}


@contextmanager
def sheet() -> Iterator[None]:
    """Within this, figures look as those of a report do."""
    with matplotlib.style.context(["default", _SHEET]):
        yield


def panels(titles: Sequence[str], columns: int = 3, height: float = 2.3, **options: Any) -> tuple[Figure, list[Axes]]:
    """One set of axes a title, at most `columns` a line, each `height` inches high; `options` are those of `subplots`.

    No pyplot, so that nothing global changes.
    """
    columns = min(columns, len(titles))
    lines = -(-len(titles) // columns)
    width = {1: 6.0, 2: 7.0}.get(columns, 9.6)
    figure = Figure(figsize=(width, height * lines))
    axes = list(figure.subplots(lines, columns, squeeze=False, **options).flat)
    for spare in axes[len(titles) :]:
        spare.remove()
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(shorten(title, int(14 * width / columns)))
    return figure, axes[: len(titles)]


def save(figure: Figure, axes: Sequence[Axes], path: Path) -> None:
    """Put one legend for all `axes` below the figure; write it as PNG to `path` and as SVG beside it."""
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    width, height = figure.get_size_inches()
    if handles:
        # about 12 characters an inch, and 7 for the sign beside a name
        names = [shorten(name, int(11 * width) - 7) for name in handles]
        columns = max(1, min(int(12 * width / (max(map(len, names)) + 7)), len(names)))
        figure.set_size_inches(width, height + 0.1 + 0.2 * -(-len(names) // columns))
        figure.legend(list(handles.values()), names, loc="outside lower center", ncols=columns)
    # not savefig, which draws each file twice; matplotlib would write the date and its version into them
    png: Any = FigureCanvasAgg(figure)
    png.print_png(path, metadata={"Software": None})
    figure.set_layout_engine("none")  # it is laid out by now
    svg: Any = FigureCanvasSVG(figure)
    svg.print_svg(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})


def styles(rows: Iterable[Row]) -> dict[str, Style]:
    """A style for each label: a colour and line a method, shades of it and other markers for its settings."""
    methods = grouped((row.method, row.hyper) for row in rows if not row.is_dense)
    others = sorted(set(methods) - set(_KNOWN))
    chosen = {"dense": Style("black", "*")}
    for place, method in enumerate([*_KNOWN, *others]):
        # the default settings, "{}", have the plain colour
        settings = sorted({*methods.get(method, ())}, key=lambda hyper: (hyper != "{}", hyper))
        for shade, hyper in enumerate(settings):
            turn, marker = divmod(len(chosen) - 1, len(_MARKERS))
            chosen[label(method, hyper)] = Style(
                _shade(_COLOURS[place % len(_COLOURS)], shade / len(settings)),
                _MARKERS[marker],
                _LINES[place % len(_LINES)],
                hollow=turn % 2 == 1,
            )
    return chosen


def plain_styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name of things that are no methods, in their order, none alike."""
    return {
        name: Style(
            _COLOURS[place % len(_COLOURS)],
            _MARKERS[place % len(_MARKERS)],
            _LINES[place // len(_COLOURS) % len(_LINES)],
        )
        for place, name in enumerate(dict.fromkeys(names))
    }


def _shade(colour: str, lightness: float) -> str:
    """The colour itself for 0, towards white for 1."""
    red, green, blue = (part + 0.7 * lightness * (1 - part) for part in to_rgb(colour))
    return str(to_hex((red, green, blue)))


def difference_axis(axis: Axes, which: Literal["x", "y"], rows: Sequence[Row], up: bool = False) -> None:
    """Make `which` axis one of differences in the rows' metric: a line at no difference, the margin as a grey zone.

    Where a value lies far beyond the margin the scale is logarithmic there. `up`: turned so that better is up or right.
    """
    metric = rows[0].metric
    worst = -metric.margin if metric.higher_is_better else metric.margin
    line, zone = (axis.axvline, axis.axvspan) if which == "x" else (axis.axhline, axis.axhspan)
    line(0, color="black", linewidth=1.0, zorder=1)
    if worst:
        zone(min(0.0, worst), max(0.0, worst), color="black", alpha=0.1, linewidth=0)
        line(worst, color="black", linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    if metric.margin > 0 and _reach(rows) > _LINEAR * metric.margin:
        getattr(axis, f"set_{which}scale")("symlog", linthresh=2 * metric.margin, linscale=0.6)
        plain_numbers(axis, which)
    if up and not metric.higher_is_better:
        getattr(axis, f"invert_{which}axis")()
    unit = f" ({metric.unit})" if metric.unit else ""
    better = "" if up else f", {'right' if metric.higher_is_better else 'left'} is better"
    getattr(axis, f"set_{which}label")(f"difference in {metric.name}{unit}{better}")


def _reach(rows: Sequence[Row]) -> float:
    compared = [row.comparison for row in rows if row.comparison is not None and row.comparison.n]
    ends = [end for one in compared for end in (one.difference, *(one.interval or ()))]
    return max(map(abs, ends), default=0.0)


def plain_numbers(axis: Axes, which: Literal["x", "y"]) -> None:
    """Numbers as 0.001 and 100 on a log axis: matplotlib would write them as mathematics, which is switched off.

    Without ticks between them, which bear no numbers, and each of which takes its time to lay out.
    """
    one = getattr(axis, f"{which}axis")
    one.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    one.set_minor_locator(NullLocator())


def shorten(name: str, length: int) -> str:
    """At most so many characters: the middle is left out, since names of one kind differ at their ends."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def few(things: Sequence[T], most: int, noun: str) -> tuple[list[T], str]:
    """The first `most` of them, and a sentence where that is not all."""
    if len(things) <= most:
        return list(things), ""
    return list(things[:most]), f" Drawn are the first {most} of {len(things)} {noun}."


def few_labels(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The rows of as many methods and settings as a legend holds, and a sentence where that is not all."""
    names, left_out = few(list(dict.fromkeys(row.label for row in rows)), _MOST_LABELS, "methods and settings")
    return [row for row in rows if row.label in names], left_out


def drawn(
    study: Study, rows: Sequence[Row], kind: str, title: str, caption: str, figure: Figure, axes: Sequence[Axes] = ()
) -> Picture:
    """Save the figure `kind` of one setting, with a legend for `axes`; the block that shows it."""
    path = file_of(study, rows, kind)
    save(figure, axes, path)
    return Picture(path.name, title, study.titles[rows[0].setting], caption)


def file_of(study: Study, rows: Sequence[Row], kind: str) -> Path:
    """Where the figure `kind` of one setting is drawn: a name that no other one has."""
    task = rows[0].setting.task
    place = place_of(study, rows)
    return study.figures / f"{slugs(study.tasks)[task]}-{kind}{f'-{place}' if place else ''}.png"


def place_of(study: Study, rows: Sequence[Row]) -> int:
    """The place of the rows' setting among those of its task, from 0."""
    setting = rows[0].setting
    return list(dict.fromkeys(row.setting for row in study.tasks[setting.task])).index(setting)


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name as the beginning of a file name, no two alike."""
    found: dict[str, str] = {}
    for name in names:
        found[name] = unused(slug_of(name), found.values())
    return found


def slug_of(name: str) -> str:
    """The name without what a file name should not hold."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
