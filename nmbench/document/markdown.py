"""The report as one markdown page: `markdown`. One table of it: `table`; of plain cells: `grid`."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tabulate import tabulate

from nmbench.document.anchors import Anchors
from nmbench.document.model import Banner, Block, Bullets, Fold, Part, Picture, Prose, Report, Section, Shell
from nmbench.document.table import Cell, Table
from nmbench.document.words import code, text

#: rows of a table that a page of GitHub still shows; it shows nothing of a page of more than about half a megabyte
MOST_ROWS = 200
_DETAILS = "Details"


def markdown(report: Report) -> str:
    """The page; image paths are relative to it. What folds away elsewhere stands at its end. Ends with a line feed."""
    folds = list(_folds(report, ()))
    anchors = Anchors(title for title in (report.title, *_headings(report), *([_DETAILS] if folds else [])))
    links = {id(fold): f"[{text(fold.title)}](#{anchors.add(title)})" for title, fold in folds}
    lines = [f"# {text(report.title)}", *_content(report, 2, links)]
    lines += [f"## {_DETAILS}"] if folds else []
    for title, fold in folds:
        lines += [f"### {text(title)}", *_content(fold, 4, links)]
    return "\n\n".join(lines) + "\n"


def table(shown: Table) -> str:
    """A GitHub table with its notes.

    Of a table with more than `MOST_ROWS` rows only these are there, and a sentence says so.
    """
    total = len(shown.rows)
    left = f"These are {MOST_ROWS} of {total} rows; report.html, CSV and LaTeX have all."
    notes = (*([left] if total > MOST_ROWS else []), *shown.notes)
    return "\n\n".join([_grid(shown), *([_bullets(notes)] if len(notes) > 1 else notes)])


def _headings(part: Report | Section) -> Iterator[str]:
    for block in part.content:
        if isinstance(block, Section):
            yield block.title
            yield from _headings(block)


def _folds(part: Report | Section, path: tuple[str, ...]) -> Iterator[tuple[str, Fold]]:
    """Every fold with a heading that says where it comes from."""
    for block in part.content:
        if isinstance(block, Section):
            yield from _folds(block, (*path, block.title))
        elif isinstance(block, Fold):
            yield f"{block.title} ({'; '.join(path)})" if path else block.title, block


def _content(part: Part, level: int, links: Mapping[int, str]) -> list[str]:
    """`links`: of each fold, by its identity, the words that stand in its place."""
    found: list[str] = []
    for block in part.content:
        match block:
            case Section():
                found += [f"{'#' * level} {text(block.title)}", *_content(block, level + 1, links)]
            case Fold():
                found.append(f"{links[id(block)]} stands at the end.")
            case Table():
                found += [f"**{text(block.title)}**"] if block.title != part.title else []
                found.append(table(block))
            case _:
                found.append(_block(block))
    return found


def _block(block: Block) -> str:
    match block:
        case Prose():
            return block.text
        case Bullets():
            return _bullets(block.items)
        case Banner():
            return f"> {block.text}"
        case Shell():
            return _fenced(block.lines)
        case Picture():
            return f"![{text(block.title)}: {text(block.about)}](figures/{block.file})\n\n*{text(block.caption)}*"
    raise TypeError(f"{type(block).__name__} is no part of a report")


def _fenced(shell: Iterable[str]) -> str:
    lines = [" ".join(line.split()) for line in shell]  # a name that a stranger gave may hold line feeds
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *lines, fence])


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _grid(shown: Table) -> str:
    headers = [text(column.heading) for column in shown.columns]
    rows = [[_cell(cell) for cell in row] for row in shown.rows[:MOST_ROWS]]
    return grid(headers, rows, "".join(column.align for column in shown.columns))


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """A GitHub table. `align` has one of "l", "r" a column, left where it ends. The cells are markdown already."""
    alignment = ["right" if letter == "r" else "left" for letter in align.ljust(len(headers), "l")]
    return tabulate(rows, headers, tablefmt="pipe", colalign=alignment, disable_numparse=True)


def _cell(cell: Cell) -> str:
    # inside a table GitHub takes the backslash before a pipe away, also in code
    shown = code(cell.text).replace("|", "\\|") if cell.code else text(cell.text)
    return f"**{shown}**" if cell.strong and shown else shown
