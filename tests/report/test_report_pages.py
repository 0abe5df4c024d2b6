"""The whole report, also of results that are not as they should be. `pytest tests/report/test_report_pages.py`"""

import re

import pytest

from nmbench.report import build
from nmbench.report.write import write_report

FIGURES = ("overall-tradeoff", *(f"classification-{kind}" for kind in ("forest", "sad", "curves")))


def written(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def page(results, tmp_path):
    """The text of the markdown page."""
    return lambda: write_report(results.folder, tmp_path / "out", "T", ["md"])[0].read_text()


@pytest.fixture
def says(page):
    """Does the page say all of this in words?"""

    def check(*sentences):
        text = page()
        assert [sentence for sentence in sentences if sentence not in text] == []
        return text

    return check


def test_equal_records_give_equal_bytes(small, tmp_path):
    write_report(small.folder, tmp_path / "a", "T")
    moved = tmp_path / "elsewhere" / "quick"
    moved.parent.mkdir()
    small.folder.rename(moved)
    write_report(moved, tmp_path / "b", "T")
    write_report(moved, tmp_path / "b", "T")
    one, two = written(tmp_path / "a"), written(tmp_path / "b")
    assert one == two
    shared = {f"figures/{figure}.{kind}" for figure in FIGURES for kind in ("png", "svg")}
    # of two settings of one task, those of the second have a number
    assert {name for name in one if "-1." not in name} == {"README.md", "report.html", *shared}


def test_links_are_relative_and_lead_to_files(small, tmp_path):
    page = write_report(small.folder, tmp_path / "out", "T")[0].read_text()
    images = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    assert len(images) >= len(FIGURES)
    assert all((tmp_path / "out" / image).is_file() for image in images)
    assert str(tmp_path) not in page


def test_the_first_screen_comes_before_everything_else(small, tmp_path):
    page = write_report(small.folder, tmp_path / "out", "T")[0].read_text()
    parts = (
        "# T\n\n**",
        "overall-tradeoff.png",
        "**Patterns and tasks**",
        "## Leaderboard",
        "## Task: ",
        "## Provenance",
    )
    places = [page.index(part) for part in parts]
    assert places == sorted(places)


def test_a_failure_while_writing_leaves_the_old_report(results, tmp_path, monkeypatch):
    results.twin()
    write_report(results.folder, tmp_path / "out", "old")
    before = written(tmp_path / "out")

    def broken(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(build, "distinct", broken)
    with pytest.raises(RuntimeError):
        write_report(results.folder, tmp_path / "out", "new")
    assert written(tmp_path / "out") == before


# -- results that are not as they should be -------------------------------------------------------------------------
def test_no_folder_at_all(says):
    says("There is no readable record here yet.", "there is nothing to say about origins", "No cell failed.")


def test_an_empty_folder_says_how_to_begin(results, page):
    results.folder.mkdir(parents=True)
    assert "nmbench run quick" in page()


def test_only_failures(says, results, tmp_path):
    results.fail("oom")
    results.fail("nan", pattern="dense", method="dense")
    text = says(
        "None of 2 cells ended well (1 nan, 1 oom).",
        "**No sparse cell ended well**, so nothing can be said about sparsity.",
        "Differences to the dense twin: no figure.",
        "there is no cost to show",
    )
    assert "it broke" in text
    assert not (tmp_path / "out" / "figures").exists()


def test_no_dense_twin(says, results):
    results.add()
    says(
        "Of 1 combination of pattern and method: 1 no dense twin.",
        "**No dense twin** to compare with, for some or all rows of classification/resnet20 (quick).",
        "2:4 sr-ste: seed 0: without a dense twin that ended well.",
    )


def test_records_that_hold_almost_nothing_still_make_a_report(results, page):
    bare = dict.fromkeys(("audit", "sad", "curve", "cost", "timings", "data", "environment", "plugin", "command"))
    results.twin(**bare)
    results.add(**bare)
    results.add("2:4", "ste", metrics={"top1": None}, **bare, metric_info=None)
    text = page()
    assert "All 3 cells ended well." in text
    assert "failed: `" not in text


def test_records_that_cannot_be_read(says, results):
    results.twin()
    results.add(schema_version=99)
    results.add(seed=1).write_text("{")
    text = says("2 records could not be read and are listed below.", "Nothing in this report comes from these files.")
    assert "99 is newer than this nmbench reads" in text
    assert "record.json" in text
