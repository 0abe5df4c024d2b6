"""Rows side by side, and what is said of them. `pytest tests/analysis/test_analysis_pairs.py`"""

import pytest

from nmbench.analysis.pairs import against, decimals, in_short, matched, with_words
from nmbench.analysis.rows import compare
from nmbench.analysis.statistics import paired
from nmbench.records.frame import load
from nmbench.task import Metric


@pytest.fixture
def two(results):
    """The 2:4 STE and SR-STE rows of the folder, and what was loaded."""

    def load_two():
        loaded = load(results.folder)
        rows = {row.method: row for row in compare(loaded.frame)}
        return rows["sr-ste"], rows["ste"], loaded

    return load_two


def value(record):
    return record.metrics.get("top1")


def test_cells_of_one_seed_are_matched_and_the_first_comes_first(results, two):
    for seed in (0, 1, 3):
        results.add(method="sr-ste", seed=seed, value=81.0 + seed)
    for seed in (3, 1, 2):
        results.add(method="ste", seed=seed, value=80.0)
    first, second, loaded = two()
    pairs = matched(first, second, loaded)
    assert pairs.seeds == (1, 3)
    assert against(pairs, value).difference == pytest.approx(3.0)
    assert pairs.keep(lambda one, other: value(one) > 83).seeds == (3,)


def test_other_data_are_left_out_and_named(results, two):
    for seed in (0, 1):
        results.add(method="sr-ste", seed=seed)
        results.add(method="ste", seed=seed, data={"fingerprint": "d" * 64 if seed else "other"})
    first, second, loaded = two()
    pairs = matched(first, second, loaded)
    assert (pairs.seeds, pairs.other_data) == ((1,), (0,))
    assert pairs.keep(lambda one, other: False).other_data == (0,)


def test_a_missing_value_is_dropped_and_counted(results, two):
    for seed in range(3):
        results.add(method="sr-ste", seed=seed, metrics={"top1": 80.0 + seed} if seed else {"loss": 1.0})
        results.add(method="ste", seed=seed, value=79.0)
    first, second, loaded = two()
    found = against(matched(first, second, loaded), value)
    assert (found.n, found.dropped) == (2, 1)


def test_words():
    found = paired([81.0, 82.1, 83.3], [80.0, 81.0, 82.0])
    assert in_short(found, "%") == "+1.13 % [+0.75, +1.51]"
    assert with_words(found, "%") == "+1.13 % [+0.75, +1.51], 3 seeds, p 0.006, seen from 0.50 % on"
    assert with_words(paired([1.0, 2.001, 3.0], [0.0, 1.0, 2.0])).split(", ")[3] == "p < 0.001"
    assert with_words(paired([81.0], [80.0]), "%") == "+1.00 %, 1 seed"
    assert with_words(paired([], [])) == "no seed that both have"
    assert in_short(paired([], [])) == "-"


@pytest.mark.parametrize(("margin", "digits"), [(1.0, 2), (0.5, 2), (0.25, 3), (0.05, 3), (0.01, 4), (0.0, 4)])
def test_decimals_follow_the_margin(margin, digits):
    assert decimals(Metric("m", margin=margin)) == digits
