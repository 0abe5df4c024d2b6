"""How every figure looks: colours, markers, names.

Drawn       what a figure is called, shows, and where it is
Style       colour, marker and line of one method with its settings
styles      the style of each row of a task, the same in all its figures
plain_styles    the same for things that are no methods
style_sheet matplotlib's own defaults and this report's, whatever the reader's matplotlibrc says
setting_title    what sets a setting apart
few, few_labels     a list that is not too long to draw, and words about what was left out
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib.style
from matplotlib.colors import to_hex, to_rgb

from nmbench.analysis.rows import Row, Setting
from nmbench.document.words import label

__all__ = [
    *(
        "Drawn",
        "Style",
        "few",
        "plain_styles",
        "setting_title",
        "shorten",
        "style_sheet",
        "styles",
    ),
]

#: methods with their settings in one legend, the dense twin among them
MOST_LABELS = 16

T = TypeVar("T")

# Okabe and Ito's palette without its yellow, which is too pale for thin lines on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
# each method has its own line too, for those who print in grey
_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), ":", (0, (1, 0.6)))
#: methods that keep their colour in every report, whatever else is in it
_KNOWN = ("sr-ste", "ste", "asp", "one-shot")
_SHEET = {
    "font.size": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.5,
    # letters as outlines look alike wherever the drawing is opened; without a salt its ids would be random
    "svg.fonttype": "path",
    "svg.hashsalt": "nmbench",
}


@dataclass(frozen=True)
class Drawn:
    """One figure: its PNG file, or None where there was nothing to draw; what it shows, or why it is missing.

    The same drawing lies beside it as SVG, under the same name.
    """

    file: str | None
    title: str
    caption: str


@dataclass(frozen=True)
class Style:
    """Colour, marker and line style, in matplotlib's words; `hollow` markers are filled with white."""

    colour: str
    marker: str
    line: Any = "-"
    hollow: bool = False

    @property
    def face(self) -> str:
        """What its markers are filled with."""
        return "white" if self.hollow else self.colour


def styles(rows: Iterable[Row]) -> dict[str, Style]:
    """A style for each label: a colour and line a method, shades of it and other markers for its settings."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if not row.is_dense:
            methods.setdefault(row.method, []).append(row.hyper)
    others = sorted(set(methods) - set(_KNOWN))
    chosen = {"dense": Style("black", "*")}
    for place, method in enumerate([*_KNOWN, *others]):
        # the default settings, "{}", have the plain colour
        settings = sorted(set(methods.get(method, ())), key=lambda hyper: (hyper != "{}", hyper))
        for shade, hyper in enumerate(settings):
            marker = len(chosen) - 1
            chosen[label(method, hyper)] = Style(
                _shade(_COLOURS[place % len(_COLOURS)], shade, len(settings)),
                _MARKERS[marker % len(_MARKERS)],
                _LINES[place % len(_LINES)],
                marker // len(_MARKERS) % 2 == 1,
            )
    return chosen


def plain_styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name of things that are no methods, in their order, none alike."""
    known = dict.fromkeys(names)
    return {
        name: Style(
            _COLOURS[place % len(_COLOURS)],
            _MARKERS[place % len(_MARKERS)],
            _LINES[place // len(_COLOURS) % len(_LINES)],
        )
        for place, name in enumerate(known)
    }


def _shade(colour: str, place: int, count: int) -> str:
    """The colour itself for the first place, then from dark to light."""
    if place == 0:
        return colour
    tint = -0.6 + 1.2 * (place - 1) / max(1, count - 2)
    tint = math.copysign(max(abs(tint), 0.25), tint)
    end = 1.0 if tint > 0 else 0.0
    red, green, blue = (part + abs(tint) * (end - part) for part in to_rgb(colour))
    return str(to_hex((red, green, blue)))


@contextmanager
def style_sheet() -> Iterator[None]:
    """matplotlib's own defaults with this report's on top, whatever the reader's matplotlibrc says."""
    with matplotlib.style.context(["default", _SHEET]):
        yield


def setting_title(setting: Setting, rows: Sequence[Row]) -> str:
    """What sets this setting apart among those of the task; "" where it is the only one."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    parts = [
        getattr(setting, name)
        for name in ("model", "scale", "train", "init")
        if len({getattr(other, name) for other in settings}) > 1
    ]
    return ", ".join(part for part in parts if part not in ("", "{}"))


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
    """The rows of the first `MOST_LABELS` methods and settings, and a sentence where that is not all."""
    names, left_out = few(list(dict.fromkeys(row.label for row in rows)), MOST_LABELS, "methods and settings")
    return [row for row in rows if row.label in names], left_out
