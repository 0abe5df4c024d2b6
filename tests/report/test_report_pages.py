"""The whole report, also of results that are not as they should be. `pytest tests/report/test_report_pages.py`"""

import json
import re

import pytest

from nmbench.document.inline import to_html
from nmbench.report import build
from nmbench.report.write import write_report

FIGURES = ("overall-tradeoff", *(f"classification-{kind}" for kind in ("forest", "sad", "curves")))


def written(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def page(results, tmp_path):
    """The text of the markdown page."""
    return lambda: write_report(results.folder, tmp_path / "out", "T", ["md"])[0].read_text()


@pytest.fixture(params=["md", "html"])
def says(request, results, tmp_path):
    """Does the report say all of this in words?"""

    def check(*sentences):
        (file,) = write_report(results.folder, tmp_path / "out", "T", [request.param])
        text = file.read_text(encoding="utf-8")
        for sentence in sentences:
            assert (sentence if request.param == "md" else to_html(sentence)) in text, sentence
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


def test_every_table_row_has_as_many_cells_as_its_head(small, tmp_path):
    page = write_report(small.folder, tmp_path / "out", "T")[0].read_text()
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert len(tables) >= 7
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


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


def test_figures_are_drawn_for_the_first_settings_of_a_task(results, tmp_path):
    for place in range(5):
        results.twin(cell={"model": f"m{place}"})
        results.add(cell={"model": f"m{place}"})
    write_report(results.folder, tmp_path / "out", "T", ["md"])
    files = [file.name for file in (tmp_path / "out" / "figures").glob("classification-forest*.png")]
    assert sorted(files) == [f"classification-forest{place}.png" for place in ("-1", "")]


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


def test_only_dense_has_curves_but_no_differences(results, page, tmp_path):
    results.twin()
    assert "The only cell ended well." in page()
    assert "Differences to the dense twin: no figure." in page()
    assert (tmp_path / "out" / "figures" / "classification-curves.png").exists()


def test_no_dense_twin(says, results):
    results.add()
    says(
        "Of 1 combination of pattern and method: 1 no dense twin.",
        "**No dense twin** to compare with, for some or all rows of classification/resnet20 (quick).",
        "2:4 sr-ste: seed 0: without a dense twin that ended well.",
    )


def test_one_seed_in_some_rows(says, results):
    for seed in range(3):
        results.twin(seed, value=80.0 + seed)
        results.add(seed=seed, value=80.1 + 1.1 * seed)
    results.add("1:4")
    says("**One seed** in 1 combination of pattern and method")


def test_a_metric_that_is_no_number(says, results):
    results.twin()
    results.add(value=float("nan"))
    says(
        "**Values that are no numbers** were left out of classification 2:4 sr-ste (top1)",
        "1 of 1 pairs without a finite top1",
    )


def test_records_that_hold_almost_nothing_still_make_a_report(results, page):
    bare = dict.fromkeys(("audit", "sad", "curve", "cost", "timings", "data", "environment", "plugin", "command"))
    results.twin(**bare)
    results.add(**bare)
    results.add("2:4", "ste", metrics={"top1": None}, **bare, metric_info=None)
    text = page()
    assert "All 3 cells ended well." in text
    assert "failed: `" not in text


def test_a_record_of_the_future(says, results):
    results.twin()
    results.add(schema_version=99)
    assert "99 is newer than this nmbench reads" in says("1 record could not be read and is listed below.")


def test_unreadable_records_are_counted_and_named(says, results):
    results.twin()
    for seed in range(2):
        results.add(seed=seed).write_text("{")
    text = says("2 records could not be read and are listed below.", "Nothing in this report comes from these files.")
    assert "record.json" in text


def test_one_cell_on_different_data(says, results):
    results.twin()
    results.add(data={"fingerprint": "a"})
    file = results.add(attempt=2, data={"fingerprint": "d" * 64})
    assert json.loads(file.read_text())["attempt"] == 2
    says(
        "**Different data**: 1 cell ran more than once, on data whose fingerprints differ.",
        "its attempts saw different data (the fingerprints differ)",
    )
