"""The paired comparison: values against formulas, the verdict table, no false alarms."""

import math

import pytest

from nmbench.analysis.statistics import paired

T_2 = 4.302652729911275  # 97.5 % quantile of Student's t with 2 degrees of freedom, from a printed table


def test_against_the_formulas():
    # differences 1, 2, 3: mean 2, standard deviation 1, standard error 1/sqrt(3)
    found = paired([11, 12, 13], [10, 10, 10], margin=1.0)
    half = T_2 / math.sqrt(3)
    assert (found.n, found.difference, found.sd, found.dropped) == (3, 2.0, 1.0, 0)
    assert found.interval == pytest.approx((2 - half, 2 + half))


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


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf])
def test_a_margin_is_finite_and_not_negative(margin):
    with pytest.raises(ValueError, match="margin"):
        paired([1.0], [1.0], margin=margin)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="cannot be paired"):
        paired([1.0], [])
