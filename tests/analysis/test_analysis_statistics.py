"""The paired comparison: values against formulas, the verdict table, no false alarms.

`pytest tests/analysis/test_analysis_statistics.py`
"""

import math

import numpy as np
import pytest

from nmbench.analysis.statistics import paired

T_2 = 4.302652729911275  # 97.5 % quantile of Student's t with 2 degrees of freedom, from a printed table


def test_against_the_formulas():
    # differences 1, 2, 3: mean 2, standard deviation 1, standard error 1/sqrt(3)
    found = paired([11, 12, 13], [10, 10, 10], margin=1.0)
    half = T_2 / math.sqrt(3)
    assert (found.n, found.difference, found.sd, found.dropped) == (3, 2.0, 1.0, 0)
    assert found.interval == pytest.approx((2 - half, 2 + half))


@pytest.mark.parametrize(
    ("centre", "width", "margin", "verdict"),
    [
        (2.0, 1.0, 1.0, "better"),
        (0.5, 1.0, 1.0, "not worse"),
        (-0.4, 0.5, 1.0, "not worse"),
        (-0.5, 0.2, 1.0, "not worse"),  # certainly worse than dense, but by less than the margin
        (-1.0, 0.5, 1.0, "worse, perhaps within the margin"),
        (-3.0, 0.5, 1.0, "worse"),
        (-0.5, 1.0, 1.0, "undecided"),
        (0.0, 3.0, 1.0, "undecided"),
        (0.0, 1.0, 0.0, "undecided"),
        (2.0, 1.0, 0.0, "better"),
        (-2.0, 1.0, 0.0, "worse"),
    ],
)
def test_the_verdict_is_read_off_the_interval(centre, width, margin, verdict):
    spread = width * math.sqrt(3) / T_2  # three differences with this spread give the interval centre +- width
    dense = np.array([70.0, 71.0, 72.0])
    sparse = dense + centre + spread * np.array([-1.0, 0.0, 1.0])
    found = paired(sparse, dense, True, margin)
    assert found.interval == pytest.approx((centre - width, centre + width))
    assert found.verdict == verdict
    mirrored = paired(-sparse, -dense, False, margin)
    assert mirrored.verdict == verdict
    assert mirrored.difference == pytest.approx(-centre)


@pytest.mark.parametrize("margin", [0.0, 1.0])
@pytest.mark.parametrize("higher", [True, False])
def test_equal_values_are_not_worse(higher, margin):
    found = paired([70.1, 71.3], [70.1, 71.3], higher, margin)
    assert (found.interval, found.verdict) == ((0.0, 0.0), "not worse")


def test_trap_8_one_dense_run_decides_nothing():
    found = paired([90.0], [10.0])
    assert (found.n, found.difference, found.sd, found.interval) == (1, 80.0, None, None)
    assert found.words == "undecided (1 seed)"


def test_no_pair_is_no_twin():
    found = paired([], [])
    assert (found.n, found.interval, found.words) == (0, None, "no dense twin")
    assert math.isnan(found.difference)


def test_the_same_difference_in_every_seed_is_no_evidence():
    found = paired([0.3, 71.3], [0.2, 71.2])  # 0.1 each, up to rounding
    assert found.words == "undecided (no spread)"


def test_pairs_with_a_missing_value_are_dropped_and_counted():
    found = paired([1.0, math.nan, 3.0, 4.0], [1.0, 2.0, math.inf, 4.0])
    assert (found.n, found.dropped, found.verdict) == (2, 2, "not worse")


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf])
def test_a_margin_is_finite_and_not_negative(margin):
    with pytest.raises(ValueError, match="margin"):
        paired([1.0], [1.0], margin=margin)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="cannot be paired"):
        paired([1.0], [])


@pytest.mark.parametrize("seeds", [3, 6])
def test_dense_against_dense_does_not_cry_wolf(seeds):
    draw = np.random.default_rng(20210)
    verdicts = [paired(*draw.normal(70, 0.3, (2, seeds)), margin=0.0).verdict for _ in range(500)]
    assert sum(verdict in ("better", "worse") for verdict in verdicts) <= 0.06 * 500


def test_a_planted_difference_is_found():
    draw = np.random.default_rng(7)
    dense = draw.normal(70, 0.3, (200, 6))
    found = [paired(row - 3 + draw.normal(0, 0.3, 6), row, True, 1.0).verdict for row in dense]
    assert found.count("worse") >= 195
    found = [paired(row - 0.2 + draw.normal(0, 0.2, 6), row, True, 1.0).verdict for row in dense]
    assert found.count("not worse") >= 195
