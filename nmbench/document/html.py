"""The report as one HTML file that needs nothing else: `html`.

Styles, the script that sorts tables, and the figures stand in it; its own policy forbids it to load anything. Without a
script all is still there to be read.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from nmbench.document.anchors import Anchors
from nmbench.document.inline import to_html
from nmbench.document.model import Banner, Block, Bullets, Fold, Part, Picture, Prose, Report, Section, Shell
from nmbench.document.table import Cell, Table

#: a drawing with more lines than this is larger and slower to show than its picture
_MOST_SVG = 150_000
_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


def html(report: Report, figures: Path) -> str:
    """The page; the files of the report's figures are read from `figures`."""
    page = _Page(figures, Anchors([report.title]))
    body = "\n".join(page.content(report, 2))
    environment = Environment(loader=PackageLoader("nmbench.document"), undefined=StrictUndefined, autoescape=True)
    template = environment.get_template("report.html.j2")
    return template.render(title=report.title, body=body, links=page.links).rstrip() + "\n"


@dataclass
class _Page:
    """One page being written: it gives every heading an anchor of its own."""

    figures: Path
    anchors: Anchors
    links: list[tuple[int, str, str]] = field(default_factory=list)

    def content(self, part: Part, level: int) -> Iterator[str]:
        """The blocks of `part`; `level` is that of the headings in it."""
        for block in part.content:
            match block:
                case Section():
                    anchor = self.anchors.add(block.title)
                    self.links.append((level, anchor, block.title))
                    yield f'<section>\n<h{level} id="{anchor}">{escape(block.title)}</h{level}>'
                    yield from self.content(block, level + 1)
                    yield "</section>"
                case Fold():
                    yield f"<details>\n<summary>{escape(block.title)}</summary>"
                    yield from self.content(block, level)
                    yield "</details>"
                case Table():
                    yield _table(block, caption=block.title != part.title)
                case _:
                    yield self.block(block)

    def block(self, block: Block) -> str:
        """One block, but a table or a section."""
        match block:
            case Prose():
                return f"<p>{to_html(block.text)}</p>"
            case Bullets():
                return "<ul>\n" + "\n".join(f"<li>{to_html(item)}</li>" for item in block.items) + "\n</ul>"
            case Banner():
                return f'<p class="banner" role="note">{to_html(block.text)}</p>'
            case Shell():
                return f"<pre><code>{escape(chr(10).join(block.lines))}</code></pre>"
            case Picture():
                image = (
                    f'<img src="{_data(self.figures / block.file)}" alt="{escape(f"{block.title}: {block.about}")}">'
                )
                caption = f"<strong>{escape(block.title)}.</strong> {escape(block.caption)}"
                return f"<figure>\n{image}\n<figcaption>{caption}</figcaption>\n</figure>"
        raise TypeError(f"{type(block).__name__} is no part of a report")


def _data(file: Path) -> str:
    """A figure as a data URI: the drawing where it is small, else its picture."""
    drawing = file.with_suffix(".svg")
    shown = drawing if drawing.exists() and drawing.stat().st_size <= _MOST_SVG else file
    return f"data:{_KINDS[shown.suffix]};base64,{base64.b64encode(shown.read_bytes()).decode('ascii')}"


def _table(table: Table, caption: bool) -> str:
    sortable = ' class="sortable"' if table.sortable and len(table.rows) > 1 else ""
    title = f"<caption>{escape(table.title)}</caption>\n" if caption else ""
    head = "".join(f'<th scope="col" class="{column.align}">{escape(column.heading)}</th>' for column in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(_cell(cell, column.align) for cell, column in zip(row, table.columns, strict=True)) + "</tr>"
        for row in table.rows
    )
    notes = "".join(f'\n<p class="note">{to_html(note)}</p>' for note in table.notes)
    return (
        f'<div class="table" tabindex="0" role="group" aria-label="{escape(table.title)}">\n'
        f'<table id="table-{escape(table.name)}"{sortable}>\n{title}<thead>\n<tr>{head}</tr>\n</thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>{notes}"
    )


def _cell(cell: Cell, align: str) -> str:
    shown = escape(cell.text)
    if cell.code and shown:
        shown = f"<code>{shown}</code>"
    if cell.strong:
        shown = f"<strong>{shown}</strong>"
    value = "" if cell.value is None else f' data-value="{escape(str(cell.value))}"'
    return f'<td class="{align}"{value}>{shown}</td>'
