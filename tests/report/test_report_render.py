"""The whole report: equal bytes, and reports about nothing. `pytest tests/report/test_report_render.py`"""

import re

import pytest

from nmbench.analysis.series import flip_rate, training_loss
from nmbench.records.frame import load
from nmbench.report import build
from nmbench.report.write import write_report

FIGURES = (
    "overall-patterns",
    *(f"classification-{kind}" for kind in ("quality", "forest", "methods", "cost", "sad", "curves")),
)
PNG = b"\x89PNG\r\n\x1a\n"


def written(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_equal_records_give_equal_bytes(small, tmp_path):
    write_report(small.folder, tmp_path / "a", "T")
    moved = tmp_path / "elsewhere" / "quick"
    moved.parent.mkdir()
    small.folder.rename(moved)
    write_report(moved, tmp_path / "b", "T")
    write_report(moved, tmp_path / "b", "T")
    one, two = written(tmp_path / "a"), written(tmp_path / "b")
    assert set(one) == {
        "README.md",
        "report.html",
        *(f"figures/{figure}.{kind}" for figure in FIGURES for kind in ("png", "svg")),
    }
    assert one == two
    assert all(content.startswith(PNG) for name, content in one.items() if name.endswith(".png"))
    assert b"Software" not in one["figures/classification-sad.png"]


def test_links_are_relative_and_lead_to_files(small, tmp_path):
    page = write_report(small.folder, tmp_path / "out", "T")[0].read_text()
    images = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    assert len(images) == len(FIGURES)
    assert all((tmp_path / "out" / image).is_file() for image in images)
    assert str(tmp_path) not in page


def test_every_table_row_has_as_many_cells_as_its_head(small, tmp_path):
    page = write_report(small.folder, tmp_path / "out", "T")[0].read_text()
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert len(tables) >= 7
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_an_empty_folder_is_a_report_that_says_so(tmp_path):
    page = write_report(tmp_path / "none", tmp_path / "out", "T")[0].read_text()
    assert "There is no readable record here yet." in page
    assert "nmbench run none" in page


def test_only_failures_is_a_report_that_says_so(results, tmp_path):
    results.fail("oom")
    results.fail("nan", pattern="dense", method="dense")
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "None of 2 cells ended well (1 nan, 1 oom)." in page
    assert "Quality against density: no figure." in page
    assert not (tmp_path / "out" / "figures").exists()


def test_only_broken_records_is_a_report_that_says_so(results, tmp_path):
    results.add().write_text("{")
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "There is no readable record here yet. One record could not be read and is listed below." in page
    assert "broken JSON" in page


def test_no_dense_twin_is_a_report_that_says_so(results, tmp_path):
    results.add()
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "over one combination of pattern and method: 1 no dense twin." in page
    assert "2:4 sr-ste: seed 0: without a dense twin that ended well." in page


def test_only_dense_has_curves_but_no_quality_figure(results, tmp_path):
    results.twin()
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "The only cell ended well. No sparse cell ended well" in page
    assert "Quality against density: no figure." in page
    assert (tmp_path / "out" / "figures" / "classification-curves.png").exists()


def test_records_that_hold_almost_nothing_still_make_a_report(results, tmp_path):
    bare = dict.fromkeys(("audit", "sad", "curve", "cost", "timings", "data", "environment", "plugin", "command"))
    results.twin(**bare)
    results.add(**bare)
    results.add("2:4", "odd", cell={"pattern": "odd"}, metrics={"top1": None}, **bare, metric_info=None)
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "All 3 cells ended well." in page


def test_a_failure_while_writing_leaves_the_old_report(results, tmp_path, monkeypatch):
    results.twin()
    page = write_report(results.folder, tmp_path / "out", "old")[0]
    before = written(tmp_path / "out")

    def broken(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(build, "overview", broken)
    with pytest.raises(RuntimeError):
        write_report(results.folder, tmp_path / "out", "new")
    assert written(tmp_path / "out") == before
    assert {file.name for file in page.parent.iterdir()} == {"README.md", "figures", "report.html"}


def test_flip_rate_is_per_weight_and_step():
    series = flip_rate({"sad": {"weights": 10, "step": [2, 4, 8], "flips": [4, 2, 0]}})
    assert series.x.tolist() == [2, 4, 8]
    assert series.y.tolist() == pytest.approx([0.2, 0.1, 0.0])


def test_flip_rate_pools_single_steps_and_keeps_every_flip():
    flips = [index % 3 for index in range(700)]
    series = flip_rate({"sad": {"weights": 7, "step": list(range(1, 701)), "flips": flips}})
    assert (len(series.x), series.x[-1]) == (50, 700)
    assert (series.y * 14 * 7).sum() == pytest.approx(sum(flips))


def test_a_second_pass_goes_on_after_a_gap(results):
    results.add(method="asp", steps=8)
    series = training_loss(load(results.folder).records[0])
    assert series.x.tolist() == [4, 8, 10, 12, 16]
    assert [value != value for value in series.y] == [False, False, True, False, False]
