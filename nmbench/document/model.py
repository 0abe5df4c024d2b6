"""What a report consists of, before it becomes markdown, HTML, CSV or LaTeX. Built once (build), rendered many times.

The texts are inline markdown: `words.text` and `words.code` make it of a stranger's text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nmbench.document.table import Table
from nmbench.document.words import unused


@dataclass(frozen=True)
class Prose:
    """One paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list; each item is one paragraph."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Banner:
    """A warning about what follows, one paragraph."""

    text: str


@dataclass(frozen=True)
class Shell:
    """Lines for a shell, as they are."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A figure: `file` lies in the report's folder `figures`; `about` tells it from its like; all plain text."""

    file: str
    title: str
    about: str
    caption: str


Block = Prose | Bullets | Banner | Shell | Picture | Table


@dataclass(frozen=True)
class Fold:
    """Long content under a title (plain text), out of a reader's way: folded in HTML, at the end of a markdown page."""

    title: str
    content: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """A heading (plain text) with what stands under it; sections in it are one level lower."""

    title: str
    content: tuple[Block | Fold | Section, ...]


@dataclass(frozen=True)
class Report:
    """`title` is plain text."""

    title: str
    content: tuple[Block | Fold | Section, ...]


Part = Report | Section | Fold


def tables(part: Part) -> Iterator[Table]:
    """Every table, in the order in which a reader meets them."""
    for block in part.content:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Section | Fold):
            yield from tables(block)


_Part = TypeVar("_Part", bound=Part)


def renamed(part: _Part, name: Callable[[Table], Table]) -> _Part:
    """`part` with `name(table)` for every table."""

    def new(block: Any) -> Any:
        if isinstance(block, Table):
            return name(block)
        return renamed(block, name) if isinstance(block, Section | Fold) else block

    return replace(part, content=tuple(map(new, part.content)))


def distinct(report: Report) -> Report:
    """`report` with names of tables made different, where two are the same: each is the name of a file."""
    taken: set[str] = set()

    def free(table: Table) -> Table:
        taken.add(name := unused(table.name, taken))
        return replace(table, name=name)

    return renamed(report, free)
