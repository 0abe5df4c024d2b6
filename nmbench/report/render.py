"""The report as a folder: README.md and its figures.

write_report    results folder -> report folder
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nmbench.report import lists, remarks, tables
from nmbench.report.compare import Row, Setting, compare
from nmbench.report.figures import draw
from nmbench.report.frame import Loaded, load, newest
from nmbench.report.gallery import gallery
from nmbench.report.provenance import mixed, provenance
from nmbench.report.summary import describe, overview, verdicts
from nmbench.report.words import text

__all__ = ["write_report"]


def write_report(results: Path, out: Path, title: str) -> Path:
    """Write `out`/README.md and `out`/figures/ about the records below `results`; returns the README's path.

    Equal records give equal bytes: nothing depends on the time, the machine or where the folders are. Every file is
    written beside its place and then moved there, the README last, so that a reader never meets half a report.
    Empty, failed or broken results make a report that says so. Raises OSError if `out` cannot be written.
    """
    results, out = Path(results), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".report-", dir=out))
    try:
        page = _page(load(results), title, results.resolve().name, scratch)
        (scratch / "README.md").write_text(page, encoding="utf-8", newline="\n")
        _publish(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out / "README.md"


def _page(loaded: Loaded, title: str, folder: str, scratch: Path) -> str:
    """The markdown page; the figures are drawn into `scratch`."""
    cells, rows = newest(loaded.frame), compare(loaded.frame)
    counting = [loaded.records[index] for index in cells.index]
    failed = cells[cells["status"] != "ok"]
    environment = Environment(
        loader=PackageLoader("nmbench.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("report.md.j2").render(
        title=text(title),
        overview=overview(loaded, rows),
        tasks=[_task(task, rows, loaded, scratch) for task in dict.fromkeys(row.setting.task for row in rows)],
        failures=lists.failures(failed),
        commands=lists.commands(failed),
        unreadable=lists.unreadable(loaded.unreadable),
        provenance=provenance(counting),
        matrices=sorted({str(record["matrix"]) for record in counting if record.get("matrix")}) or [folder],
    )
    return re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"


def _task(task: str, rows: Sequence[Row], loaded: Loaded, scratch: Path) -> dict[str, Any]:
    """What the template shows of one task."""
    records = loaded.records
    own = [row for row in rows if row.setting.task == task]
    stem = re.sub(r"[^\w.-]+", "-", task)
    good = [records[index] for row in own for index in row.records]
    settings = dict.fromkeys(row.setting for row in own)
    return {
        "name": text(task),
        "settings": [
            _setting(setting, own, loaded, scratch / f"{stem}-examples{f'-{place}' if place else ''}.png")
            for place, setting in enumerate(settings)
        ],
        "figures": draw(stem, own, records, scratch),
        "layers": lists.layers_left_dense(good),
    }


def _setting(setting: Setting, rows: Sequence[Row], loaded: Loaded, picture: Path) -> dict[str, Any]:
    """What the template shows of one setting; its examples are drawn to `picture`."""
    own, records = [row for row in rows if row.setting == setting], loaded.records
    return {
        "name": describe(setting),
        "banner": mixed(records[index] for row in own for index in row.records),
        "verdicts": verdicts(own),
        "quality": tables.quality(own),
        "others": tables.others(own, records),
        "baselines": remarks.baselines(own, records),
        "facts": remarks.facts(own, records),
        "notes": remarks.notes(own, records),
        "cost": tables.cost(own),
        "examples": gallery(own, loaded.folders, picture),
    }


def _publish(scratch: Path, out: Path) -> None:
    """Move what was written to its place: the figures first, then the page that shows them."""
    figures = out / "figures"
    for file in sorted(scratch.glob("*.png")):
        figures.mkdir(exist_ok=True)
        os.replace(file, figures / file.name)
    os.replace(scratch / "README.md", out / "README.md")
