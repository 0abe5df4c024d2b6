"""What a report consists of, before it becomes markdown, HTML, CSV or LaTeX. Built once (build), rendered many times.

Report, Section, Fold                       the whole, a part of it under a heading, and one that may stand behind
Prose, Bullets, Banner, Shell, Picture      what stands in a section beside tables
tables, pictures                            all of them, in their order
distinct                                    the same report with a name of its own for every table

The texts are inline markdown: `words.text` and `words.code` make it of a stranger's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nmbench.document.table import Table

__all__ = [
    "Banner",
    "Block",
    "Bullets",
    "Fold",
    "Part",
    "Picture",
    "Prose",
    "Report",
    "Section",
    "Shell",
    "distinct",
    "pictures",
    "tables",
]


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
    return (block for block in _blocks(part) if isinstance(block, Table))


def pictures(part: Part) -> Iterator[Picture]:
    """Every figure, in the order in which a reader meets them."""
    return (block for block in _blocks(part) if isinstance(block, Picture))


def _blocks(part: Part) -> Iterator[Block]:
    for block in part.content:
        if isinstance(block, Section | Fold):
            yield from _blocks(block)
        else:
            yield block


_Part = TypeVar("_Part", Report, Section, Fold)


def distinct(report: Report) -> Report:
    """`report` with names of tables made different, where two are the same: each is the name of a file."""
    return _distinct(report, set())


def _distinct(part: _Part, taken: set[str]) -> _Part:
    content: tuple[Any, ...] = tuple(_renamed(block, taken) for block in part.content)
    return replace(part, content=content)


def _renamed(block: Block | Fold | Section, taken: set[str]) -> Block | Fold | Section:
    if isinstance(block, Section):
        return _distinct(block, taken)
    if isinstance(block, Fold):
        return _distinct(block, taken)
    if not isinstance(block, Table):
        return block
    count, name = 1, block.name
    while name in taken:
        count += 1
        name = f"{block.name}-{count}"
    taken.add(name)
    return replace(block, name=name)
