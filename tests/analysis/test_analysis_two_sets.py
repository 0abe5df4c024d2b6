"""Two result sets side by side. `pytest tests/analysis/test_analysis_two_sets.py`"""

import pytest

from nmbench.analysis.two_sets import between, lost, surroundings
from nmbench.document.markdown import markdown
from nmbench.records.frame import load
from nmbench.report.sections.two_sets import page as report_page


@pytest.fixture
def two(tmp_path, factory):
    make, _ = factory
    return make(tmp_path / "a"), make(tmp_path / "b")


def page(first, second, names):
    return markdown(report_page(first, second, names, between(first, second)))


def loaded(two):
    return load(two[0].folder), load(two[1].folder)


def only(two):
    (change,) = between(*loaded(two))
    return change


def test_seeds_are_paired_and_the_difference_is_that_of_b(two):
    for seed, (mine, theirs) in enumerate([(80.0, 81.0), (70.0, 71.2), (60.0, 60.8)]):
        two[0].add(seed=seed, value=mine)
        two[1].add(seed=seed, value=theirs)
    change = only(two)
    assert change.comparison.difference == pytest.approx(1.0)
    assert (change.comparison.n, change.words, change.notes) == (3, "better", ())


def test_the_stricter_margin_of_the_two_counts(two):
    for side, margin in zip(two, (1.0, 0.05), strict=True):
        for seed, value in enumerate((80.0, 80.3, 80.1)):
            shift = -0.2 + 0.01 * seed if side is two[1] else 0.0
            metric = {"name": "top1", "unit": "%", "higher_is_better": True, "margin": margin}
            side.add(seed=seed, value=value + shift, metric=metric)
    assert only(two).words == "worse"


def test_other_data_are_not_compared(two):
    two[0].add()
    two[1].add(data={"fingerprint": "new"})
    change = only(two)
    assert (change.comparison, change.words) == (None, "nothing to compare")
    assert change.notes == ("seed 0: the two saw different data",)


def test_cells_of_another_id_scheme_are_not_paired_and_it_is_said(two):
    two[0].add()
    two[1].add(cell_id="0" * 16)
    change = only(two)
    assert change.words == "nothing to compare"
    assert "id scheme" in change.notes[0]


@pytest.mark.parametrize(
    ("sides", "verdict"), [("A", "failed in A"), ("B", "failed in B"), ("AB", "failed in A and B")]
)
def test_failures_are_named(two, sides, verdict):
    for side, name in zip(two, "AB", strict=True):
        side.fail("oom") if name in sides else side.add(method="ste")
    change = only(two)
    assert change.words == verdict
    assert lost([change]) == (sides == "B")


def test_where_versions_and_hardware_differ_is_said(two):
    two[0].add()
    two[1].add(environment={"cpu": "other", "python": "3.11.9"})
    differing = surroundings(*loaded(two))
    assert differing["cpu"] == ({"Example CPU 3000": 1}, {"other": 1})
    assert "python" not in differing
    assert "Where the two differ" in page(*loaded(two), ("a", "b"))


def test_a_note_about_many_rows_is_said_once(two):
    for method in ("ste", "asp", "sr-ste"):
        two[0].add(method=method)
        two[1].add(method=method)
        two[1].add(method=method, seed=1)
    two[0].add("1:4", "ste")
    two[1].add("1:4", "ste")
    written = page(*loaded(two), ("a", "b"))
    assert "- 2:4 asp, 2:4 sr-ste, 2:4 ste: seed 1: not there in A, or failed." in written
