"""Differences over evaluation examples. `pytest tests/analysis/test_analysis_examples.py`"""

import json

import numpy as np
import pytest

from nmbench.analysis.examples import _interval, over_examples, per_example
from nmbench.analysis.rows import compare
from nmbench.records.frame import load


def store(file, **values):
    (file.parent / "per_example.json").write_text(json.dumps(values))


@pytest.fixture
def found(results):
    def differences():
        loaded = load(results.folder)
        rows = {row.pattern_text: row for row in compare(loaded.frame)}
        return over_examples(rows["2:4"], rows["dense"], loaded)

    return differences


def test_seeds_are_averaged_first_and_examples_stay_paired(results, found):
    for seed, (dense, sparse) in enumerate([([1, 1, 0, 0], [1, 0, 0, 0]), ([1, 1, 1, 0], [0, 0, 1, 0])]):
        store(results.twin(seed), correct=dense, loss=[1.0] * 4)
        store(results.add(seed=seed), correct=sparse, other=[1.0] * 4)
    (one,) = found()
    assert (one.name, one.examples, one.seeds, one.left_out, one.without) == ("correct", 4, (0, 1), 0, ())
    # differences averaged over the seeds: -0.5, -1, 0, 0
    assert one.mean == pytest.approx(-0.375)
    low, high = one.interval
    assert -1 <= low < -0.375 < high <= 0


def test_an_example_without_a_number_in_one_seed_is_left_out(results, found):
    for seed in range(2):
        store(results.twin(seed), epe=[1.0, 2.0, 3.0])
        store(results.add(seed=seed), epe=[2.0, None if seed else 9.0, 3.0])
    (one,) = found()
    assert (one.examples, one.left_out, one.mean) == (2, 1, 0.5)


@pytest.mark.parametrize("broken", ["{", "[1, 2]", '{"epe": ["a"]}', '{"epe": [[1, 2, 3]]}', '{"epe": [1, 2]}', "\xff"])
def test_a_broken_or_short_list_takes_its_seed_out_and_it_is_said(results, found, broken):
    for seed in range(2):
        store(results.twin(seed), epe=[1.0, 2.0, 3.0])
        file = results.add(seed=seed)
        store(file, epe=[2.0, 3.0, 4.0])
    (file.parent / "per_example.json").write_text(broken, encoding="latin-1")
    (one,) = found()
    assert (one.seeds, one.without, one.mean) == ((0,), (1,), 1.0)


def test_values_that_are_huge_or_nested_break_nothing(tmp_path):
    for text in ('{"a": [' + "9" * 400 + "]}", "[" * 100_000, "null", '{"a": null}'):
        (tmp_path / "per_example.json").write_text(text)
        assert all(values.ndim == 0 for values in per_example(tmp_path).values())


def test_equal_values_have_an_interval_of_no_width_and_one_example_none():
    assert _interval(np.zeros(10)) == (0.0, 0.0)
    assert _interval(np.ones(1)) is None


@pytest.mark.parametrize(
    "kind",
    ["right or wrong", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("continuous", "skewed"))],
)
def test_the_interval_covers_the_truth_in_about_95_percent(kind):
    """300 examples, 300 simulations; four standard deviations of that count are 5 %, and few examples cost a little."""
    draw = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        if kind == "right or wrong":
            values, truth = draw.choice([-1.0, 0.0, 1.0], p=[0.15, 0.75, 0.10], size=300), -0.05
        elif kind == "continuous":
            values, truth = draw.normal(0.3, 1.0, 300), 0.3
        else:
            values, truth = draw.exponential(1.0, 300), 1.0
        low, high = _interval(values)
        covered += low <= truth <= high
    assert 0.895 <= covered / 300 <= 0.99


def test_very_long_lists_take_the_same_law_without_resampling():
    """A million distinct values: the interval is the normal one; a bootstrap of them would draw 10^9 numbers."""
    values = np.random.default_rng(5).normal(2.0, 1.0, 1_000_000)
    low, high = _interval(values)
    # resampling would miss this by more, as its ends are drawn
    assert (low, high) == pytest.approx((values.mean() - 1.96e-3, values.mean() + 1.96e-3), abs=2e-5)
