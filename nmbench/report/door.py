"""The door of a report: its own sections and those of strangers enter by it, as `Entry`s.

class Stability:
    place, order = "setting", 55

    def blocks(self, study, rows):
        yield Table(...)
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from nmbench._util.errors import first_line
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.html import html
from nmbench.document.model import Banner, Block, Fold, Report, Section
from nmbench.document.words import code

GROUP = "nmbench.sections"
Content = Block | Fold | Section

_log = logging.getLogger(__name__)


class Place(StrEnum):
    """Where a section stands. Its rows are all at the front and the end, else those of the task or the setting."""

    FRONT = "front"
    SETTING = "setting"
    TASK = "task"
    END = "end"


class ReportSection(Protocol):
    """One subject of a report.

    place: a `Place`. order: among the sections of its place; the built-in ones stand at 10, 20, ... blocks: what is
    shown for the study, or for the rows of one task or setting of it; figures are drawn into `study.figures`.
    """

    @property
    def place(self) -> str: ...  # noqa: D102
    @property
    def order(self) -> int: ...  # noqa: D102
    def blocks(self, study: Study, rows: Sequence[Row]) -> Iterable[Content]: ...  # noqa: D102


@dataclass(frozen=True)
class Entry:
    """A section by name, as a report takes it; `stranger`: it came by an entry point, so that its blocks are tried."""

    name: str
    place: Place
    order: int
    blocks: Callable[[Study, Sequence[Row]], Iterable[Content]]
    stranger: bool = False


def sections(built_in: Iterable[Entry]) -> list[Entry]:
    """All sections in their order; an entry point that cannot be loaded is one that raises why."""
    strangers = map(_loaded, entry_points(group=GROUP))
    return sorted([*built_in, *strangers], key=lambda entry: (entry.order, entry.name))


def _loaded(point: EntryPoint) -> Entry:
    try:
        section: ReportSection = point.load()()
        return Entry(point.name, Place(section.place), int(section.order), section.blocks, stranger=True)
    except Exception as error:
        problem = error

    def blocks(study: Study, rows: Sequence[Row]) -> Iterable[Content]:
        raise problem

    return Entry(point.name, Place.END, 0, blocks)


def made(entry: Entry, study: Study, rows: Sequence[Row]) -> list[Content]:
    """The section's blocks, as far as it gets."""
    found: list[Content] = []
    try:
        for block in entry.blocks(study, rows):
            if entry.stranger:
                # what cannot be shown, a figure that is not there, say, would break the whole report later
                html(Report("", (block,)), study.figures)
            found.append(block)
    except Exception as error:
        _log.warning("section %s of the report failed: %s", entry.name, first_line(error))
        _log.info("section %s", entry.name, exc_info=True)
        found.append(Banner(f"Section {code(entry.name)} failed: {code(first_line(error))}."))
    return found
