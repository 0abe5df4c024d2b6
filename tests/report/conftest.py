"""What the report's sections are asked: the study of a results folder, and the tables that a section gives of it."""

import pytest

from nmbench.analysis.study import Study
from nmbench.document.model import Report, tables
from nmbench.records.frame import load
from nmbench.report.style import sheet


@pytest.fixture
def study(results, tmp_path):
    """The study of `results` as they are now; figures go to a folder of their own."""
    figures = tmp_path / "figures"
    figures.mkdir(exist_ok=True)
    return lambda: Study.of(load(results.folder), figures, "quick")


@pytest.fixture
def blocks(study):
    """What a section gives for all rows, or for those of one task."""

    def made(section, task=None):
        whole = study()
        rows = whole.rows if task is None else whole.tasks[task]
        with sheet():
            return tuple(section(whole, rows)) if rows else ()

    return made


@pytest.fixture
def table(blocks):
    """The one table that a section gives, None for none; those that fold away count."""

    def made(section, task=None):
        found = list(tables(Report("", blocks(section, task))))
        assert len(found) < 2
        return found[0] if found else None

    return made
