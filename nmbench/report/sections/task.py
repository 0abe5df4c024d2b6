"""The section of one task in a report: its settings with their tables, then figures and the layers left dense.

task_section
slugs           names as the beginnings of file names
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nmbench.analysis.rows import Row, Setting
from nmbench.document.model import Banner, Block, Bullets, Picture, Prose, Section
from nmbench.document.table import Table, named
from nmbench.document.words import text
from nmbench.records.frame import Loaded
from nmbench.report.panels import Drawn
from nmbench.report.sections import lists, remarks, tables
from nmbench.report.sections.cost import effort, size
from nmbench.report.sections.examples import gallery
from nmbench.report.sections.figures import draw
from nmbench.report.sections.origins import mixed
from nmbench.report.sections.overview import examples_table, methods_by_patterns, precision_table
from nmbench.report.sections.speed import speed_table
from nmbench.report.sections.summary import verdicts

__all__ = ["slugs", "task_section"]

_NO_COST = "No cell of this setting ended well, so there is no cost to show."
_ALL_SPARSE = "No candidate layer was left dense, or no record of a sparse cell that ended well says so."


def task_section(task: str, stem: str, rows: Sequence[Row], loaded: Loaded, figures: Path) -> Section:
    """Everything about `task`; the figures are drawn into `figures`, under names that begin with `stem`."""
    own = [row for row in rows if row.setting.task == task]
    settings = list(dict.fromkeys(row.setting for row in own))
    parts = [
        _setting(setting, stem, own, loaded, figures / f"{stem}-examples{f'-{place}' if place else ''}.png")
        for place, setting in enumerate(settings)
    ]
    left = lists.layers_left_dense(loaded.records[index] for row in own for index in row.records)
    layers: Block = named(left, stem, task) if left else Prose(_ALL_SPARSE)
    drawn = [_figure(figure, task) for figure in draw(stem, own, loaded.records, figures)]
    return Section(f"Task: {task}", (*parts, Section("Figures", tuple(drawn)), Section("Layers left dense", (layers,))))


def _setting(setting: Setting, stem: str, rows: Sequence[Row], loaded: Loaded, picture: Path) -> Section:
    """One setting of a task; its examples are drawn to `picture`."""
    own, records = [row for row in rows if row.setting == setting], loaded.records
    title = setting.described
    prefix = _slug(f"{stem}-{setting.model}-{setting.scale}")
    about = f"{setting.task}, {title}"

    def table(shown: Table | None) -> list[Block]:
        return [named(shown, prefix, about)] if shown else []

    banner = mixed(records[index] for row in own for index in row.records)
    said = [line for line in (remarks.baselines(own, records), remarks.facts(own, records)) if line]
    examples = gallery(own, loaded.folders, picture)
    content: list[Block] = [
        *([Banner(banner)] if banner else []),
        Prose(verdicts(own)),
        *table(tables.quality(own)),
        *(block for shown in methods_by_patterns(own) for block in table(shown)),
        *map(Prose, said),
        *_bullets(remarks.notes(own, records)),
        *table(precision_table(own) if any(row.pairs > 1 for row in own) else None),
        *table(examples_table(own, loaded)),
        *table(tables.others(own, records)),
        *(table(size(own)) or [Prose(_NO_COST)]),
        *table(effort(own)),
        *table(speed_table(own, records)),
        *table(examples.texts),
        *([_figure(examples.figure, setting.task)] if examples.figure else []),
        *_bullets(examples.remarks),
    ]
    return Section(title, tuple(content))


def _figure(drawn: Drawn, about: str) -> Block:
    if drawn.file is None:
        return Prose(f"{text(drawn.title)}: no figure. {text(drawn.caption)}")
    return Picture(drawn.file, drawn.title, about, drawn.caption)


def _bullets(items: tuple[str, ...]) -> list[Block]:
    return [Bullets(items)] if items else []


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name as the beginning of a file name, no two alike."""
    found: dict[str, str] = {}
    for name in names:
        slug, count = _slug(name), 1
        while slug in found.values():
            count += 1
            slug = f"{_slug(name)}-{count}"
        found[name] = slug
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
