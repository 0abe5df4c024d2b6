"""Every format against its gold file, and the same cells and words in all. `pytest tests/report/test_report_formats.py`

After a wanted change: `NMBENCH_UPDATE_GOLD=1 pytest tests/report/test_report_formats.py`; read the diff.
"""

import csv
import html
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmbench.claims import Judgement
from nmbench.claims.section import claims_section
from nmbench.document.csv import csv_text
from nmbench.document.escape_latex import plain
from nmbench.document.fit import fit
from nmbench.document.html import html as to_page
from nmbench.document.latex import latex_files, latex_table
from nmbench.document.markdown import markdown
from nmbench.document.markdown import table as to_markdown
from nmbench.document.model import Fold, Report, Section, distinct, tables
from nmbench.document.table import Cell, Column, Table
from nmbench.records.frame import load
from nmbench.report.write import FORMATS, write_report

GOLD = Path(__file__).parent / "gold"
TABLES = [
    "classification-resnet20-quick-quality",
    "classification-resnet20-quick-cost",
    "failures",
    "patterns-by-tasks",
]
GOLD_FILES = ["README.md", "report.html", "results.csv", "notes.csv", "report.tex"]
GOLD_FILES += [f"tables/{name}.{kind}" for name in TABLES for kind in ("csv", "tex")]

#: what a stranger may have written into a record
HOSTILE = r"a|b <img src=x onerror=alert(1)> **c** `d` \input{x} $e$ %f & #g _h_ ~i^ {j} [k](l) ü 中 </script> ${m}"
COLUMNS = (Column("name", "Name"), Column("value", "Value", "r", "%"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture
def report(small, tmp_path):
    """The folder of a report in every format."""
    write_report(small.folder, tmp_path / "out", "Quick matrix", list(FORMATS))
    return tmp_path / "out"


def table_of(*texts):
    return Table("t", "Title", COLUMNS, tuple((Cell(text), Cell("1.50", 1.5)) for text in texts))


def without_large_parts(page):
    """A page without the bytes of figures, styles and script, which other tests look at."""
    page = re.sub(r'src="data:(image/[^;]*);base64,[^"]+"', r'src="data:\1"', page)
    return re.sub(r"(?s)<(style|script)>.*?</\1>", r"<\1></\1>", page)


@pytest.mark.parametrize("name", GOLD_FILES)
def test_a_file_is_its_gold_file(report, name):
    text = without_large_parts((report / name).read_text(encoding="utf-8"))
    gold = GOLD / name
    if os.environ.get("NMBENCH_UPDATE_GOLD"):
        gold.parent.mkdir(exist_ok=True)
        gold.write_text(text, encoding="utf-8", newline="\n")
    assert text == gold.read_text(encoding="utf-8")


def test_every_table_is_in_every_format(report):
    names = {file.stem for file in report.glob("tables/*.csv")}
    page = (report / "report.html").read_text()
    assert names == {file.stem for file in report.glob("tables/*.tex")} == set(re.findall(r'id="table-([^"]+)"', page))
    assert all(rf"\input{{tables/{name}}}" in (report / "report.tex").read_text() for name in names)
    assert len(names) > 10


def test_csv_has_every_digit_and_the_ends_of_an_interval(small, report):
    rows = list(csv.DictReader((report / "tables/classification-resnet20-quick-quality.csv").open()))
    dense, sr_ste = rows[:2]
    assert float(sr_ste["value (%)"]) == pytest.approx((82.7 + 83.8 + 84.6) / 3, abs=1e-12)
    assert (sr_ste["pattern"], sr_ste["seeds"], sr_ste["verdict"]) == ("2:4", "3", "not worse")
    assert float(sr_ste["difference_low"]) < float(sr_ste["difference"]) < float(sr_ste["difference_high"]) < 0
    assert (dense["difference"], dense["value_sd (%)"]) == ("", "1.0")
    whole = pd.read_csv(report / "results.csv")
    assert list(whole["cell_id"]) == list(load(small.folder).frame["cell_id"])


def test_html_needs_nothing_but_itself(report):
    page = (report / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert page.count('src="data:image/') == len(re.findall("<figure>", page)) > 0


def test_links_of_the_html_page_lead_somewhere(report):
    page = (report / "report.html").read_text()
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)
    assert "how-to-read-this-report" in anchors


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


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_latex_of_any_text_is_balanced_and_has_no_bare_special(text):
    escaped = plain(text)
    assert not re.search("--|,,", escaped)
    bare = re.sub(r"\\(text[a-z]+|dots|[%&$#_{}])", "", escaped)
    assert not re.search(r"[%&#_^]|\\[{}]", re.sub(r"\$(\\[a-z]+|-)\$", "", bare))
    assert bare.count("{") == bare.count("}")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 3), st.integers(40, 120))
def test_parts_of_a_wide_table_hold_every_column_once_beside_its_keys(widths, keys, width):
    columns = tuple(Column(str(place), "x", "r") for place in range(len(widths)))
    whole = Table("t", "T", columns, (tuple(Cell("9" * size) for size in widths),), keys=keys)
    parts = fit(whole, width)
    own = [column for part in parts for column in part.columns[min(keys, len(widths)) if len(parts) > 1 else 0 :]]
    assert [column.key for column in own] == [column.key for column in columns][len(columns) - len(own) :]
    if len(parts) > 1:
        assert all(part.columns[:keys] == columns[:keys] for part in parts)
        assert all(len(part.columns) == len(part.rows[0]) for part in parts)


def test_a_wide_table_is_split_on_a_page_and_whole_elsewhere():
    columns = tuple(Column(f"c{place}", f"Column number {place}", "r") for place in range(12))
    wide = Table("wide", "Wide", columns, (tuple(Cell(str(place), place) for place in range(12)),))
    page = to_markdown(wide)
    assert page.count("Column number 0") == 3
    assert max(map(len, page.splitlines())) <= 112
    assert csv_text(wide).splitlines()[0].count(",") == 11
    assert latex_table(wide).count(r"\begin{tabular}") == 3


def test_a_long_table_breaks_over_pages():
    assert r"\begin{longtable}" in latex_table(table_of(*"x" * 41))
    assert r"\begin{longtable}" not in latex_table(table_of("x"))


def test_tables_of_one_name_become_two_files():
    twice = Report("R", (table_of("a"), Section("S", (table_of("b"), table_of("c")))))
    assert [table.name for table in tables(distinct(twice))] == ["t", "t-2", "t-3"]


def test_words_among_numbers_are_empty_in_csv():
    table = Table("t", "T", COLUMNS, ((Cell("a"), Cell("1.50", 1.5)), (Cell("b"), Cell("failed", parts=(("v", "x"),)))))
    assert csv_text(table) == "name,value (%),value_v (%)\na,1.5,\nb,,x\n"


def test_a_page_cuts_a_very_long_table_in_words():
    long = table_of(*(f"row {place}" for place in range(201)))
    page = to_markdown(long)
    assert "| row 199 " in page
    assert "row 200" not in page
    assert page.endswith("These are 200 of 201 rows; report.html, CSV and LaTeX have all.")
    assert "row 200" in csv_text(long)
    assert "row 200" in latex_table(long)


def test_many_comparisons_of_claims_fold_away():
    judged = [Judgement("C3", "Flips fall.", "pass", "1 to 0", f"cell {place}", 3) for place in range(13)]
    assert [len(table.rows) for table in claims_section(judged[:12]).content] == [1, 12]
    summary, fold = claims_section(judged).content
    assert summary.rows[0][2].text == "13"
    assert isinstance(fold, Fold)
    assert len(fold.content[0].rows) == 13


def test_sections_become_headings_at_their_depth(report):
    page = (report / "README.md").read_text()
    assert page.startswith("# Quick matrix\n\n")
    assert "\n## Task: classification\n\n### resnet20, scale quick\n\n" in page
    assert "\n\n\n" not in page
    assert r"\section{Task: classification}" in (report / "report.tex").read_text()


def test_an_empty_report_is_a_page_in_every_format(tmp_path):
    nothing = Report("Nothing", ())
    assert markdown(nothing) == "# Nothing\n"
    assert "<h1>Nothing</h1>" in to_page(nothing, tmp_path)
    assert r"\begin{document}" in latex_files(nothing)["report.tex"]


@pytest.mark.timeout(300)
def test_latex_compiles(report):
    if not (latex := shutil.which("pdflatex")):
        pytest.skip("no pdflatex here: apt-get install texlive-latex-recommended")
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "report.tex"]
    done = subprocess.run(command, cwd=report, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]
