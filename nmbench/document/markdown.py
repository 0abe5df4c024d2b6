"""The report as one markdown page: `markdown`. And one table of it: `table`."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from nmbench.document.fit import fit, heading
from nmbench.document.model import Banner, Block, Bullets, Picture, Prose, Report, Section, Shell
from nmbench.document.table import Cell, Table
from nmbench.document.words import code, text
from nmbench.document.words import table as grid

__all__ = ["WIDTH", "markdown", "table"]

#: characters of a table that a page of GitHub shows without a scroll bar
WIDTH = 110
#: rows of a table that a page of GitHub still shows; it shows nothing of a page of more than about half a megabyte
MOST_ROWS = 200


def markdown(report: Report) -> str:
    """The page; image paths are relative to it. Ends with a line feed."""
    return "\n\n".join([f"# {text(report.title)}", *_content(report, 2)]) + "\n"


def table(shown: Table) -> str:
    """A GitHub table, or several below each other where it is too wide; then its notes.

    Of a table with more than `MOST_ROWS` rows only these are there, and a sentence says so.
    """
    total = len(shown.rows)
    cut = replace(shown, rows=shown.rows[:MOST_ROWS])
    left = f"These are {MOST_ROWS} of {total} rows; report.html, CSV and LaTeX have all."
    notes = (*([left] if total > MOST_ROWS else []), *shown.notes)
    return "\n\n".join([*map(_grid, fit(cut, WIDTH)), *_notes(notes)])


def _content(part: Report | Section, level: int) -> list[str]:
    found: list[str] = []
    for block in part.content:
        if isinstance(block, Section):
            found += [f"{'#' * level} {text(block.title)}", *_content(block, level + 1)]
        elif isinstance(block, Table) and block.title != part.title:
            found += [f"**{text(block.title)}**", _block(block)]
        else:
            found.append(_block(block))
    return found


@singledispatch
def _block(block: Block) -> str:
    raise TypeError(f"{type(block).__name__} is no part of a report")


@_block.register
def _(block: Prose) -> str:
    return block.text


@_block.register
def _(block: Bullets) -> str:
    return "\n".join(f"- {item}" for item in block.items)


@_block.register
def _(block: Banner) -> str:
    return f"> {block.text}"


@_block.register
def _(block: Shell) -> str:
    return "\n".join(["```sh", *block.lines, "```"])


@_block.register
def _(block: Picture) -> str:
    return f"![{text(block.title)}: {text(block.about)}](figures/{block.file})\n\n*{text(block.caption)}*"


@_block.register
def _(block: Table) -> str:
    return table(block)


def _grid(shown: Table) -> str:
    headers = [text(heading(column)) for column in shown.columns]
    rows = [[_cell(cell) for cell in row] for row in shown.rows]
    return grid(headers, rows, "".join(column.align for column in shown.columns))


def _cell(cell: Cell) -> str:
    # inside a table GitHub takes the backslash before a pipe away, also in code
    shown = code(cell.text).replace("|", "\\|") if cell.code else text(cell.text)
    return f"**{shown}**" if cell.strong and shown else shown


def _notes(notes: tuple[str, ...]) -> list[str]:
    return [_block(Bullets(notes))] if len(notes) > 1 else list(notes)
