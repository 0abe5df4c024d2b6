"""The report as a folder."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nmbench.analysis.study import Study
from nmbench.document.csv import csv_files
from nmbench.document.html import html
from nmbench.document.latex import latex_files
from nmbench.document.markdown import markdown
from nmbench.document.model import Report
from nmbench.records.frame import Loaded, load, set_aside
from nmbench.report.build import build

FORMATS = {"md": "README.md", "html": "report.html", "csv": "results.csv", "tex": "tables"}
DEFAULT = ("md", "html")
FIGURES = "figures"


def write_report(results: Path, out: Path, title: str, formats: Sequence[str] = DEFAULT) -> list[Path]:
    """Write the report about the records below `results` into `out`; returns the page of each format, in that order.

    Equal records give equal bytes: nothing depends on the time, the machine or where the folders are (the figures on
    matplotlib's version). Every file is written beside its place and then moved there, the pages last, so that a reader
    never meets half a report. Empty, failed or broken results make a report that says so. Raises OSError if `out`
    cannot be written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".report-", dir=out))
    try:
        for name, text in _render(Path(results), title, formats, scratch).items():
            file = scratch / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        _publish(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [out / FORMATS[name] for name in formats]


def _render(results: Path, title: str, formats: Sequence[str], scratch: Path) -> dict[str, str]:
    """Path in the report's folder -> text, the pages last. The figures are drawn into `scratch`/figures."""
    figures = scratch / FIGURES
    figures.mkdir()
    loaded = load(results)
    files: dict[str, str] = {}
    with set_aside():
        report = build(Study.of(loaded, figures, results.resolve().name), title)
        for name in formats:
            files |= _files(name, report, loaded, figures)
    pages = set(FORMATS.values())
    return dict(sorted(files.items(), key=lambda item: item[0] in pages))


def _files(name: str, report: Report, loaded: Loaded, figures: Path) -> dict[str, str]:
    match name:
        case "md":
            return {FORMATS[name]: markdown(report)}
        case "html":
            return {FORMATS[name]: html(report, figures)}
        case "csv":
            return {**csv_files(report), FORMATS[name]: loaded.frame.to_csv(index=False, lineterminator="\n")}
        case "tex":
            return latex_files(report)
        case _:
            raise ValueError(f"no format {name!r}: there are {', '.join(FORMATS)}")


def _publish(scratch: Path, out: Path) -> None:
    """Move what was written to its place: figures and tables first, then the pages that show them."""
    files = sorted(file.relative_to(scratch) for file in scratch.rglob("*") if file.is_file())
    for file in sorted(files, key=lambda file: len(file.parts), reverse=True):
        (out / file).parent.mkdir(exist_ok=True)
        os.replace(scratch / file, out / file)
