"""`nmbench report --check`: is a report what its records give? `pytest tests/report/test_report_check.py`"""

import pytest
from PIL import Image
from typer.testing import CliRunner

from nmbench._util.errors import UsageError
from nmbench.cli import app
from nmbench.report.check import differences, formats_of
from nmbench.report.write import FORMATS, write_report


@pytest.fixture
def report(small, tmp_path):
    write_report(small.folder, tmp_path / "out", "quick", list(FORMATS))
    return tmp_path / "out"


def everything(folder):
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}


def run(small, *arguments):
    return CliRunner().invoke(app, ["report", "quick", "--results", str(small.folder.parent), *map(str, arguments)])


def test_a_fresh_report_is_what_its_records_give_and_nothing_is_written(small, report):
    before = everything(report)
    assert formats_of(report) == list(FORMATS)
    assert differences(small.folder, report, "quick", list(FORMATS)) == []
    assert everything(report) == before


def test_a_changed_line_a_missing_file_and_a_left_over_one_are_named(small, report):
    page = report / "README.md"
    page.write_text(page.read_text().replace("**worse**", "**better**", 1))
    (report / "tables" / "failures.csv").unlink()
    (report / "tables" / "old.tex").write_text("x")
    (report / "figures" / "classification-sad.png").unlink()
    said = differences(small.folder, report, "quick", list(FORMATS))
    assert len(said) == 4
    assert any(line.startswith("README.md: differs from line") for line in said)
    for line in (
        "tables/failures.csv: missing",
        "tables/old.tex: no part of this report",
        "figures/classification-sad.png: missing",
    ):
        assert line in said


def test_other_bytes_of_a_figure_are_no_difference(small, report):
    page = report / "report.html"
    page.write_text(page.read_text().replace(";base64,", ";base64,AAAA"))
    other = Image.new("RGB", (40, 30))
    other.save(report / "figures" / "classification-sad.png")
    assert differences(small.folder, report, "quick", list(FORMATS)) == []


def test_a_figure_that_is_cut_off_is_named(small, report):
    (report / "figures" / "classification-sad.png").write_bytes(b"")
    (line,) = differences(small.folder, report, "quick", list(FORMATS))
    assert line.startswith("figures/classification-sad.png: is no picture that can be read")


def test_a_record_that_changes_no_table_is_noticed_all_the_same(small, report):
    file = next(small.folder.rglob("record.json"))
    file.write_text(file.read_text() + "\n")
    assert {line.split(":")[0] for line in differences(small.folder, report, "quick", list(FORMATS))} == {
        "README.md",
        "report.html",
        "notes.csv",
        "report.tex",
    }


def test_the_command_exits_1_with_a_line_a_file(small, report):
    assert run(small, "--out", report, "--check").exit_code == 0
    (report / "README.md").write_bytes(b"\xff")
    (report / "report.html").unlink()
    done = run(small, "--out", report, "--check", "--format", "md,html")
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert f"{report}/README.md: cannot be read (UnicodeDecodeError)" in lines
    assert f"{report}/report.html: missing" in lines
    assert len(lines) == 3


def test_without_a_report_there_is_nothing_to_check(small, tmp_path):
    assert "no report in" in str(run(small, "--out", tmp_path / "none", "--check").exception)


@pytest.mark.parametrize(
    ("asked", "pages"),
    [
        ("tex", ["report.tex"]),
        ("CSV, md", ["README.md", "results.csv"]),
        ("all", list(FORMATS.values())),
        (None, ["README.md", "report.html"]),
    ],
)
def test_formats_are_asked_for_by_name(small, tmp_path, asked, pages):
    done = run(small, "--out", tmp_path / "out", *(["--format", asked] if asked else []))
    assert done.exit_code == 0
    assert [line.rsplit("/", 1)[1] for line in done.stdout.splitlines()] == pages
    assert {file.name for file in (tmp_path / "out").iterdir() if file.name in FORMATS.values()} == set(pages)


def test_a_format_that_does_not_exist_is_refused_and_the_others_are_named(small, tmp_path):
    done = run(small, "--out", tmp_path / "out", "--format", "md,pdf")
    assert "no 'pdf'; there are md, html, csv, tex" in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["..", ".", "a/../..", ""])
def test_a_name_that_leads_elsewhere_is_refused_and_writes_nothing(small, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    done = CliRunner().invoke(app, ["report", name, "--results", str(small.folder.parent)])
    assert isinstance(done.exception, UsageError)
    assert [path.name for path in tmp_path.iterdir() if path.name != small.folder.parent.name] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_an_absolute_name_is_refused(small):
    before = sorted(small.folder.rglob("*"))
    done = CliRunner().invoke(app, ["report", str(small.folder), "--results", str(small.folder.parent)])
    assert "give its folder with --results" in str(done.exception)
    assert sorted(small.folder.rglob("*")) == before


def test_results_that_are_not_there_leave_the_report_alone(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports" / "quick").mkdir(parents=True)
    (tmp_path / "reports" / "quick" / "README.md").write_text("good")
    done = CliRunner().invoke(app, ["report", "quick", "--results", "resluts"])
    assert "no results of 'quick' in resluts" in str(done.exception)
    assert (tmp_path / "reports" / "quick" / "README.md").read_text() == "good"


def test_examples_that_change_are_noticed(small, report):
    attempt = next(small.folder.rglob("record.json")).parent
    (attempt / "samples.json").write_text("[]")
    assert any(line.startswith("README.md: differs") for line in differences(small.folder, report, "quick", ["md"]))
