"""The report as one HTML file that needs nothing else: `html`.

Styles, the script that sorts tables, and the figures stand in it; its own policy forbids it to load anything. Without a
script all is still there to be read.
"""

import base64
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from nmbench.document.anchors import Anchors
from nmbench.document.inline import to_html
from nmbench.document.model import Banner, Bullets, Fold, Picture, Prose, Report, Section, Shell
from nmbench.document.table import Table

#: a drawing with more lines than this is larger and slower to show than its picture
_MOST_SVG = 150_000
_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


def html(report: Report, figures: Path) -> str:
    """The page; the files of the report's figures are read from `figures`."""
    links = list(_links(report, 2, Anchors([report.title])))
    anchors = {id(section): anchor for _, anchor, section in links}
    page = _template().render(report=report, links=links, anchors=anchors, data=lambda file: _data(figures / file))
    return page.strip() + "\n"


@cache
def _template() -> Template:
    loader = PackageLoader("nmbench.document")
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True)
    environment.filters |= {"inline": lambda text: Markup(to_html(text)), "kind": _kind, "id": id, "zip": zip}
    return environment.get_template("report.html.j2")


def _links(part: Report | Section, level: int, anchors: Anchors) -> Iterator[tuple[int, str, Section]]:
    """(level, anchor, section) of every heading, in the order of the page."""
    for block in part.content:
        if isinstance(block, Section):
            yield level, anchors.add(block.title), block
            yield from _links(block, level + 1, anchors)


def _kind(block: object) -> str:
    """The name of the macro that shows a block."""
    if not isinstance(block, Prose | Bullets | Banner | Shell | Picture | Table | Fold | Section):
        raise TypeError(f"{type(block).__name__} is no part of a report")
    return type(block).__name__


def _data(file: Path) -> str:
    """A figure as a data URI: the drawing where it is small, else its picture."""
    drawing = file.with_suffix(".svg")
    shown = drawing if drawing.exists() and drawing.stat().st_size <= _MOST_SVG else file
    return f"data:{_KINDS[shown.suffix]};base64,{base64.b64encode(shown.read_bytes()).decode('ascii')}"
