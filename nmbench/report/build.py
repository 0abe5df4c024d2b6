"""From records to a report in the model that every format is rendered from: `build`, which also draws the figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nmbench.analysis.rows import Row, compare
from nmbench.claims import judge
from nmbench.claims.published import beside, published_table
from nmbench.claims.section import claims_sections
from nmbench.document.model import Banner, Block, Bullets, Picture, Prose, Report, Section, Shell, distinct
from nmbench.document.words import plural
from nmbench.records.frame import Loaded, newest
from nmbench.records.schema import Record
from nmbench.report.sections import lists
from nmbench.report.sections.cautions import cautions
from nmbench.report.sections.figures import draw_overall
from nmbench.report.sections.glossary import GLOSSARY
from nmbench.report.sections.origins import fingerprint, mixed, provenance
from nmbench.report.sections.overview import patterns_by_tasks
from nmbench.report.sections.summary import overview
from nmbench.report.sections.task import slugs, task_section

__all__ = ["build"]


def build(loaded: Loaded, title: str, folder: str, figures: Path) -> Report:
    """The report about `loaded`; `folder` is the results folder's name. The figures are drawn into `figures`."""
    rows = compare(loaded.frame)
    cells = newest(loaded.frame)
    failed = cells[cells["status"] != "ok"]
    counting = [loaded.records[index] for index in cells.index]
    tasks = list(dict.fromkeys(row.setting.task for row in rows))
    matrices = sorted({str(record["matrix"]) for record in counting if record.get("matrix")}) or [folder]
    claims, claims_in_full = claims_sections(judge(loaded, rows))
    content = [
        Prose(f"{overview(loaded, rows)} [How to read this report](#how-to-read-this-report) is at its end."),
        *_bullets(cautions(loaded, rows)),
        *_mixed(rows, loaded),
        *_overview(rows, figures),
        *claims,
        *_published(rows, loaded),
        *(task_section(task, stem, rows, loaded, figures) for task, stem in slugs(tasks).items()),
        *claims_in_full,
        Section("Failures", (lists.failures(failed) or Prose("No cell failed."),)),
        *_unreadable(loaded),
        Section("Provenance", _provenance(loaded, counting)),
        Section("How to reproduce", _reproduce(matrices)),
        Section("How to read this report", (Bullets(GLOSSARY),)),
    ]
    return distinct(Report(title, tuple(content)))


def _bullets(items: tuple[str, ...]) -> list[Block]:
    return [Bullets(items)] if items else []


def _mixed(rows: list[Row], loaded: Loaded) -> list[Block]:
    """Above the tables that put settings and tasks together; those of one setting have a banner of their own."""
    found = mixed(
        (loaded.records[place] for row in rows for place in row.records), "that stand together in this report"
    )
    return [Banner(found)] if found else []


def _overview(rows: list[Row], figures: Path) -> list[Section]:
    table = patterns_by_tasks(rows)
    drawn = [
        Picture(one.file, one.title, "all tasks", one.caption)
        for one in draw_overall(rows, figures)
        if one.file is not None
    ]
    return [Section("Overview", (table, *drawn))] if table else []


def _published(rows: list[Row], loaded: Loaded) -> list[Section]:
    shown = beside(rows, loaded.records)
    return [Section("Published figures", (published_table(shown),))] if shown else []


def _unreadable(loaded: Loaded) -> list[Section]:
    table = lists.unreadable(loaded.unreadable)
    words = Prose("Nothing in this report comes from these files.")
    return [Section("Unreadable records", (words, table))] if table else []


def _provenance(loaded: Loaded, counting: list[Record]) -> tuple[Block, ...]:
    table = provenance(counting)
    if table is None:
        return (Prose("There is no readable record, so there is nothing to say about origins."),)
    records = plural(len(loaded.records), "readable record")
    return (Prose(f"Fingerprint of the {records}: `{fingerprint(loaded)}`."), table)


def _reproduce(matrices: Iterable[str]) -> tuple[Block, ...]:
    lines = tuple(f"nmbench {verb} {matrix}" for matrix in matrices for verb in ("run", "report"))
    return (
        Shell(lines),
        Prose(
            "`nmbench run` does only the cells that have not ended well yet; `nmbench report` writes this page again, "
            "and `nmbench report --check` says whether it is what the records give."
        ),
    )
