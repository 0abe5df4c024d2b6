"""Long content that folds away in HTML and stands at the end of a markdown page."""

import re

import pytest

from nmbench.document.html import html
from nmbench.document.markdown import markdown
from nmbench.document.model import Fold, Prose, Report, Section, distinct, tables
from nmbench.document.table import Cell, Column, Table


def table():
    return Table("t", "Title", (Column("a", "A"),), ((Cell("long"),),))


@pytest.fixture
def report():
    part = Section("One", (Fold("Per layer", (table(),)), Prose("after")))
    return distinct(Report("R", (part, Section("Two", (Fold("Per layer", (table(),)),)))))


def test_markdown_links_to_what_stands_behind(report):
    page = markdown(report)
    assert page.index("after") < page.index("## Details") < page.index("| long |")
    links = re.findall(r"\[Per layer\]\(#([^)]+)\)", page)
    assert links == ["per-layer-one", "per-layer-two"]
    assert "### Per layer (One)" in page


def test_html_folds_it_where_it_belongs(report, tmp_path):
    page = html(report, tmp_path)
    assert page.count("<summary>Per layer</summary>") == 2
    assert page.index(">long<") < page.index("<p>after")


def test_its_tables_are_files_like_all_others(report):
    assert [one.name for one in tables(report)] == ["t", "t-2"]
