"""From records to a report in the model that every format is rendered from: `build`, which also draws the figures."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Report, Section, distinct, renamed
from nmbench.document.table import named
from nmbench.report.door import Content, Entry, Place, made, sections
from nmbench.report.sections import BUILT_IN
from nmbench.report.style import sheet, slug_of, slugs


def build(study: Study, title: str) -> Report:
    """The report about `study`, every section in its place; the figures are drawn into `study.figures`."""
    entries = sections(BUILT_IN)
    with _records_set_aside(), sheet():
        content = (
            *_at(Place.FRONT, entries, study, study.rows),
            *(_task(task, slug, entries, study) for task, slug in slugs(study.tasks).items()),
            *_at(Place.END, entries, study, study.rows),
        )
    return distinct(Report(title, content))


def _at(place: Place, entries: Sequence[Entry], study: Study, rows: Sequence[Row]) -> list[Content]:
    return [block for entry in entries if entry.place is place for block in made(entry, study, rows)]


def _task(task: str, slug: str, entries: Sequence[Entry], study: Study) -> Section:
    """Every setting of a task, then what is shown for all of them; tables are named after their place."""
    rows = study.tasks[task]
    content: list[Content] = []
    for setting in dict.fromkeys(row.setting for row in rows):
        prefix, about = slug_of(f"{slug}-{setting.model}-{setting.scale}"), f"{task}, {setting.described}"
        blocks = Section(setting.described, tuple(_at(Place.SETTING, entries, study, study.settings[setting])))
        content.append(renamed(blocks, partial(named, prefix=prefix, about=about)))
    rest = Section(f"Task: {task}", tuple(_at(Place.TASK, entries, study, rows)))
    rest = renamed(rest, partial(named, prefix=slug, about=task))
    return replace(rest, content=(*content, *rest.content))


@contextmanager
def _records_set_aside() -> Iterator[None]:
    """Figures leave much garbage; without this, each collection of it would walk through all records again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
