"""One document in every format: a gold page, the same cells in all. `pytest tests/document/test_document_formats.py`

After a wanted change: `NMBENCH_UPDATE_GOLD=1 pytest tests/document/test_document_formats.py`; read the diff.
"""

import csv
import html
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmbench.document.csv import csv_files, csv_text
from nmbench.document.html import html as to_page
from nmbench.document.latex import escaped, latex_files, latex_table
from nmbench.document.markdown import markdown
from nmbench.document.markdown import table as to_markdown
from nmbench.document.model import Banner, Bullets, Fold, Picture, Prose, Report, Section, Shell, distinct, tables
from nmbench.document.table import Cell, Column, Table, filled

GOLD = Path(__file__).parent / "gold.md"
#: what a stranger may have written into a record
HOSTILE = r"a|b <img src=x onerror=alert(1)> **c** `d` \input{x} $e$ %f & #g _h_ ~i^ {j} [k](l) ü 中 </script> ${m}"
COLUMNS = (Column("name", "Name"), Column("value", "Value", "r", "%"))
PNG = b"\x89PNG\r\n\x1a\n"


def table_of(*texts, **changes):
    rows = tuple((Cell(text), Cell("1.50", 1.5, parts=(("low", 1.0), ("high", 2.0)))) for text in texts)
    return Table("t", "Title", COLUMNS, rows, **changes)


@pytest.fixture
def report():
    """Every kind of block, at two depths."""
    inner = Section("Inner", (Bullets(("one", "two `code`")), Shell(("nmbench run quick",)), table_of("b")))
    outer = Section(
        "Task: classification",
        (
            Banner("**Careful.** [Read](#inner)."),
            table_of("a", HOSTILE, notes=("A *note*.",)),
            Fold("Per layer", (table_of("c"),)),
            Picture("drawn.png", "Figure", "all tasks", "What it shows."),
            inner,
        ),
    )
    return distinct(Report("Quick matrix", (Prose("All cells ended well."), outer)))


@pytest.fixture
def figures(tmp_path):
    (tmp_path / "drawn.png").write_bytes(PNG)
    return tmp_path


def test_the_markdown_page_is_its_gold_file(report):
    page = markdown(report)
    if os.environ.get("NMBENCH_UPDATE_GOLD"):
        GOLD.write_text(page, encoding="utf-8", newline="\n")
    assert page == GOLD.read_text(encoding="utf-8")


def test_every_table_is_in_every_format(report, figures):
    names = {table.name for table in tables(report)}
    assert names == {"t", "t-2", "t-3"}
    assert names == set(re.findall(r'id="table-([^"]+)"', to_page(report, figures)))
    for files, kind in ((csv_files(report), "csv"), (latex_files(report), "tex")):
        assert set(files) == {f"tables/{name}.{kind}" for name in names}


def test_csv_has_every_digit_and_the_parts_of_a_cell():
    table = Table("t", "T", COLUMNS, ((Cell("a"), Cell("0.33", 1 / 3, parts=(("sd", 0.1),))), (Cell("-"), Cell("-"))))
    assert csv_text(table) == f"name,value (%),value_sd (%)\na,{1 / 3},0.1\n,,\n"


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-1+1", "\t=1"])
def test_a_spreadsheet_computes_nothing_that_a_stranger_wrote(text):
    rows = next(csv.DictReader(io.StringIO(csv_text(table_of(text)))))
    assert rows["name"] == f"'{text}"


def test_a_line_of_shell_stays_in_its_fence():
    page = markdown(Report("T", (Shell(("nmbench run x\n```\n# INJECTED", "ls")),)))
    assert "\n````sh\nnmbench run x ``` # INJECTED\nls\n````\n" in page


def test_html_needs_nothing_but_itself(report, figures):
    page = to_page(report, figures)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert page.count('src="data:image/png') == 1


def test_links_of_the_html_page_lead_somewhere(report, figures):
    page = to_page(report, figures)
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)


def test_what_a_stranger_wrote_is_shown_and_does_nothing(tmp_path):
    shown = table_of(HOSTILE)
    page = to_page(Report(HOSTILE, (shown,)), tmp_path)
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert html.escape(HOSTILE) in page
    assert next(csv.DictReader(io.StringIO(csv_text(shown))))["name"] == HOSTILE
    line = to_markdown(shown).splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "<" not in line
    assert r"\input{x}" not in latex_table(shown)
    assert r"\textbackslash{}input\{x\}" in latex_table(shown)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="–—"), max_size=40))
def test_latex_of_any_text_is_balanced_and_has_no_bare_special(text):
    shown = escaped(text)
    assert not re.search("--|,,", shown)
    bare = re.sub(r"\\(text[a-z]+|dots|[%&$#_{}])", "", shown)
    assert not re.search(r"[%&#_^]|\\[{}]", re.sub(r"\$(\\[a-z]+|-)\$", "", bare))
    assert bare.count("{") == bare.count("}")


def test_a_long_table_breaks_over_pages_and_is_cut_in_words_on_one():
    long = table_of(*(f"row {place}" for place in range(201)))
    assert r"\begin{longtable}" in latex_table(long)
    assert r"\begin{longtable}" not in latex_table(table_of("x"))
    page = to_markdown(long)
    assert "| row 199 " in page
    assert "row 200" not in page
    assert page.endswith("These are 200 of 201 rows; report.html, CSV and LaTeX have all.")
    assert "row 200" in csv_text(long)
    assert "row 200" in latex_table(long)


def test_columns_that_hold_nothing_are_left_out():
    rows = ((Cell("-"), Cell("-"), Cell("1")), (Cell("-"), Cell("-"), Cell("-")))
    shown = filled(Table("t", "T", (*COLUMNS, Column("c", "C")), rows))
    assert [column.key for column in shown.columns] == ["name", "c"]


def test_headings_of_one_title_have_anchors_of_their_own(tmp_path):
    page = to_page(Report("R", (Section("Same", (Prose("a"),)), Section("Same", (Prose("b"),)))), tmp_path)
    assert re.findall(r'<h2 id="([^"]+)"', page) == ["same", "same-1"]


@pytest.mark.timeout(300)
def test_latex_compiles(report, tmp_path):
    if not (latex := shutil.which("pdflatex")):
        pytest.skip("no pdflatex here: apt-get install texlive-latex-recommended")
    body = "\n".join([*latex_files(report).values(), latex_table(table_of(*(HOSTILE for _ in range(41))))])
    packages = "".join(rf"\usepackage{{{name}}}" for name in ("textcomp", "booktabs", "longtable"))
    page = rf"\documentclass{{article}}\usepackage[T1]{{fontenc}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]
