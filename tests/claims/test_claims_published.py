"""Published figures stand beside ours only where everything agrees. `pytest tests/claims/test_claims_published.py`"""

from pathlib import Path

import pytest

from nmbench.analysis.rows import compare
from nmbench.claims import published as module
from nmbench.claims.published import beside, published, published_table
from nmbench.records.frame import load

IMAGENET = {"fingerprint": "i", "counts": {"train": 1_281_167, "val": 50_000}}
CHAIRS = {"fingerprint": "c", "counts": {"chairs train": 22_232, "chairs val": 640}}
EPE = {"name": "epe", "unit": "px", "higher_is_better": False, "margin": 0.1}
PAPER = {"model": "resnet50", "scale": "paper"}


def shown(results):
    loaded = load(results.folder)
    assert loaded.unreadable == []
    return beside(compare(loaded.frame), loaded.records)


def test_the_file_is_read_whole_and_every_figure_has_a_source():
    figures = published()
    lines = Path(module.__file__).with_name("published.csv").read_text().splitlines()
    assert len(figures) == len(lines) - 1 == 12
    assert all(figure.source and figure.value > 0 for figure in figures)
    assert {figure.axis for figure in figures} == {"", "input"}
    assert sum(figure.pattern != "dense" and not figure.axis for figure in figures) == 5


def test_what_agrees_is_shown_with_source_and_note(results):
    results.add(cell=PAPER, data=IMAGENET, value=76.9)
    results.add(cell=PAPER, data=IMAGENET, value=76.5, seed=1)
    found = shown(results)
    assert [one.figure.value for one in found] == [77.0, 77.1]
    table = published_table(found)
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts[0][:7] == ["resnet50", "2:4", "sr-ste", "top1 (%)", "77.00", "76.70", "2"]
    assert texts[0][7] == "authors' repository classification/README.md"
    assert texts[0][8].startswith("the published axis is not settled, ours is input; axis not settled by the source")
    assert texts[1][8] == ""  # this one's axis is known, and is ours
    assert "shown, not compared" in table.notes[0]


def test_along_the_other_axis_only_what_is_not_settled_is_shown(results):
    results.add("2:4@kernel", cell=PAPER, data=IMAGENET)
    (one,) = shown(results)
    assert (one.figure.value, one.remarks[0]) == (77.0, "the published axis is not settled, ours is kernel")


def test_the_lambda_w_that_acted_in_the_authors_runs_is_shown_beside_their_figures(results):
    results.add(cell={**PAPER, "hyper": {"lambda_w": 1.6e-3}}, data=IMAGENET)
    found = shown(results)
    assert [one.figure.value for one in found] == [77.0, 77.1]
    assert all("ours with the lambda_w that acted in the authors' runs" in one.remarks for one in found)


def test_a_dense_figure_has_no_axis_to_settle(results):
    results.twin(cell=PAPER, data=IMAGENET)
    found = shown(results)
    assert [one.figure.value for one in found] == [77.70, 77.38, 77.36, 77.30]
    assert not any("axis" in remark for one in found for remark in one.remarks)


def test_the_published_name_of_a_model_is_ours(results):
    results.add(cell={"task": "optical-flow", "model": "raft_large", "scale": "paper"}, data=CHAIRS, metric=EPE)
    (one,) = shown(results)
    assert one.figure.value == 0.88
    assert "200k steps" in one.remarks[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"cell": {**PAPER, "task": "detection"}},
        {"cell": {**PAPER, "model": "resnet101"}},
        {"cell": {**PAPER, "scale": "study"}},
        {"cell": {**PAPER, "hyper": {"lambda_w": 1e-3}}},
        {"pattern": "1:16"},
        {"pattern": "4:8@kernel", "method": "ste"},
        {"method": "ste"},
        {"metric": {"name": "top5", "unit": "%", "higher_is_better": True, "margin": 1.0}},
        {"metric": {"name": "top1", "unit": "", "higher_is_better": True, "margin": 1.0}},
        {"data": {"fingerprint": "i", "counts": {"train": 1_281_167, "val": 49_999}}},
        {"data": {"fingerprint": "i", "counts": {"train": 1_281_167}}},
        {"data": {"fingerprint": "i"}},
        {"data": CHAIRS},
        {"value": float("nan")},
        {"status": "oom"},
    ],
    ids=str,
)
def test_a_near_miss_is_not_shown(results, changes):
    results.add(**{"cell": PAPER, "data": IMAGENET, **changes})
    assert shown(results) == []


def test_one_seed_on_other_data_hides_the_row(results):
    results.add(cell=PAPER, data=IMAGENET)
    results.add(cell=PAPER, seed=1)
    assert shown(results) == []


def test_settings_that_differ_from_the_recipe_are_said(results):
    init = {"sha256": "ab" * 32, "file": "weights-a.pt"}
    results.add(cell={**PAPER, "train": {"epochs": 90}, "init": init}, data=IMAGENET)
    remarks = shown(results)[1].remarks
    assert remarks == ("ours with epochs=90", "ours from the initial weights abababababababab")
