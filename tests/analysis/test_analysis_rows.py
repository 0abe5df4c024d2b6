"""Which cells are paired, and what a row says of them. `pytest tests/analysis/test_analysis_rows.py`"""

import pytest

from nmbench.analysis.rows import compare
from nmbench.records.frame import frame


@pytest.fixture
def rows(results):
    """The comparison rows of the results folder, by (pattern, method)."""
    return lambda: {(row.pattern_text, row.method): row for row in compare(frame(results.folder))}


def test_pairs_are_by_seed(results, rows):
    for seed, (dense, sparse) in enumerate([(80, 79), (82, 80), (84, 81)]):
        results.twin(seed, value=dense)
        results.add(seed=seed, value=sparse)
    row = rows()["2:4", "sr-ste"]
    assert row.seeds == (0, 1, 2)
    assert (row.comparison.n, row.comparison.difference, row.comparison.sd) == (3, -2.0, 1.0)
    assert row.time_ratio == pytest.approx(1.08)
    assert rows()["dense", "dense"].words == "reference"


@pytest.mark.parametrize(
    "cell",
    [
        {"model": "other"},
        {"scale": "study"},
        {"train": {"epochs": 9}},
        {"init": "weights-a"},
        {"seed": 5},
        {"task": "x"},
    ],
)
def test_a_twin_of_another_setting_or_seed_is_no_twin(results, rows, cell):
    results.twin(cell=cell)
    results.add()
    assert rows()["2:4", "sr-ste"].words == "no dense twin"


def test_a_failed_twin_is_no_twin_and_the_row_says_so(results, rows):
    results.twin(0)
    results.fail("nan", pattern="dense", method="dense", seed=1)
    results.add(seed=0)
    results.add(seed=1)
    row = rows()["2:4", "sr-ste"]
    assert row.comparison.n == 1
    assert row.notes == ("seed 1: without a dense twin that ended well",)


def test_other_data_are_not_paired_and_the_row_says_so(results, rows):
    results.twin(data={"fingerprint": "old"})
    results.add()
    row = rows()["2:4", "sr-ste"]
    assert row.words == "twin saw other data"
    assert "saw other data" in row.notes[0]


def test_failed_cells_are_counted_in_their_row(results, rows):
    results.twin()
    results.add(method="ste", seed=0)
    results.fail("nan", seed=1)
    results.fail("oom", method="asp")
    assert (rows()["2:4", "ste"].cells, rows()["2:4", "ste"].seeds) == (2, (0,))
    assert rows()["2:4", "asp"].words == "failed"


def test_a_metric_that_is_not_finite_is_dropped_in_words(results, rows):
    results.twin()
    results.add(value=float("nan"))
    row = rows()["2:4", "sr-ste"]
    assert (row.comparison.n, row.words) == (0, "no finite pair")
    assert row.notes == ("1 of 1 pairs without a finite top1",)


def test_the_strictest_margin_counts(results, rows):
    results.twin()
    results.add(metric={"name": "top1", "unit": "%", "higher_is_better": True, "margin": 0.25})
    assert rows()["2:4", "sr-ste"].metric.margin == 0.25


@pytest.mark.parametrize(
    "changes",
    [
        {"timings": {"train_s": 50.0, "alone": False}},
        {"timings": {"train_s": 50.0, "alone": True, "resumed": True}},
        {"timings": {"train_s": 50.0, "alone": True}, "environment": {"cpu": "another"}},
        {"timings": {"train_s": 50.0, "alone": True}, "environment": {"gpu": "another"}},
        {"timings": {"train_s": 50.0}},
        {"environment": {"cpu": "another"}},
    ],
)
def test_times_that_may_not_be_compared_are_not(results, rows, changes):
    results.twin()
    results.add(**changes)
    assert rows()["2:4", "sr-ste"].time_ratio is None


def test_a_pass_that_was_taken_over_counts_in_the_time(results, rows):
    results.twin(timings={"train_s": 100.0, "alone": True})
    results.add(
        *("2:4", "asp"),
        timings={"train_s": 101.0, "train_total_s": 201.0, "alone": True},
        reused={"phase": 0, "cell_id": "x", "attempt": 1},
    )
    assert rows()["2:4", "asp"].time_ratio == pytest.approx(2.01)


def test_two_records_of_one_cell_with_different_data_are_told(results, rows):
    results.twin()
    results.add(attempt=1, data={"fingerprint": "old"})
    results.add(attempt=2)
    row = rows()["2:4", "sr-ste"]
    assert (row.comparison.n, row.cells) == (1, 1)
    assert row.notes == (
        "seed 0: its attempts saw different data (the fingerprints differ); the newest one that ended well counts",
    )


def test_rows_are_ordered_by_falling_density_then_method(results):
    for pattern, method in [("1:16", "ste"), ("2:4", "ste"), ("4:8@kernel", "asp"), ("2:4", "asp")]:
        results.add(pattern, method)
    results.add("2:4", "asp", cell={"hyper": {"lr": 1}})
    results.twin()
    order = [(row.pattern_text, row.method, row.hyper) for row in compare(frame(results.folder))]
    assert order == [
        ("dense", "dense", "{}"),
        ("2:4", "asp", "{}"),
        ("2:4", "asp", '{"lr":1}'),
        ("2:4", "ste", "{}"),
        ("4:8@kernel", "asp", "{}"),
        ("1:16", "ste", "{}"),
    ]
