"""What holds of every paired comparison. `pytest tests/analysis/test_analysis_statistics_invariants.py`"""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from nmbench.analysis.statistics import p_floor, paired, smallest_seen

values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=12)
margins = st.floats(0, 1e6)
gaps = st.sampled_from([(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, -math.inf), (math.inf, math.inf)])
RANK = {"worse": 0, "undecided": 0, "worse, perhaps within the margin": 1, "not worse": 2, "better": 3}


def split(of):
    return [one for one, _ in of], [other for _, other in of]


@given(pairs, margins, st.booleans())
def test_turning_the_metric_round_turns_only_the_numbers(of, margin, higher):
    sparse, dense = split(of)
    found = paired(sparse, dense, higher, margin)
    mirrored = paired([-one for one in sparse], [-one for one in dense], not higher, margin)
    assert mirrored.verdict == found.verdict
    assert mirrored.difference == -found.difference
    assert mirrored.sd == found.sd
    assert (mirrored.p_value, mirrored.smallest_seen) == (found.p_value, found.smallest_seen)


@given(pairs)
def test_swapping_the_sides_swaps_better_and_worse(of):
    sparse, dense = split(of)
    found, swapped = paired(sparse, dense), paired(dense, sparse)
    other = {"better": "worse", "worse": "better"}
    assert swapped.verdict == other.get(found.verdict, found.verdict)


@given(pairs, margins, margins, st.booleans())
def test_a_larger_margin_never_makes_the_verdict_worse(of, one, other, higher):
    small, large = sorted((one, other))
    strict, lenient = (paired(*split(of), higher, margin) for margin in (small, large))
    assert strict.interval == lenient.interval
    if strict.verdict in RANK:
        assert RANK[lenient.verdict] >= RANK[strict.verdict]
        assert "better" not in {strict.verdict, lenient.verdict} or strict.verdict == lenient.verdict
    else:
        assert strict.verdict == lenient.verdict


@given(pairs, margins, st.randoms())
def test_the_order_of_the_pairs_does_not_matter(of, margin, random):
    found = paired(*split(of), margin=margin)
    random.shuffle(of)
    shuffled = paired(*split(of), margin=margin)
    assert shuffled.n == found.n
    assert shuffled.difference == pytest.approx(found.difference, rel=1e-9, abs=1e-6)
    if found.interval is not None:
        # apart from rounding at the very edge
        assume(all(abs(abs(end) - edge) > 1e-6 for end in found.interval for edge in (0.0, margin)))
        assert shuffled.verdict == found.verdict


@given(pairs, st.lists(gaps, min_size=1, max_size=4), margins)
def test_pairs_that_are_no_numbers_are_dropped_and_counted(of, missing, margin):
    found, longer = paired(*split(of), margin=margin), paired(*split(of + missing), margin=margin)
    assert longer.dropped == len(missing)
    assert (longer.n, longer.difference, longer.interval, longer.verdict) == (
        *(found.n, found.difference, found.interval, found.verdict),
    )


@given(st.lists(st.tuples(values, values), min_size=3, max_size=12))
def test_interval_and_p_value_are_those_of_scipy_and_agree(of):
    found = paired(*split(of))
    if found.p_value is not None:
        assume(abs(found.p_value - 0.05) > 1e-9)
        assert (found.verdict in ("better", "worse")) == (found.p_value < 0.05)
        same = stats.ttest_rel(*split(of))
        assert found.p_value == pytest.approx(same.pvalue, rel=1e-6)
        assert found.interval == pytest.approx(tuple(same.confidence_interval(0.95)), rel=1e-6, abs=1e-6)


@given(st.integers(2, 40), st.floats(1e-6, 1e6))
def test_more_seeds_see_smaller_differences_and_spread_hides_them(n, sd):
    assert smallest_seen(sd, n + 1) < smallest_seen(sd, n)
    assert smallest_seen(2 * sd, n) == pytest.approx(2 * smallest_seen(sd, n))
    # an interval is not enough: half of the time the estimate lies below the truth
    assert smallest_seen(sd, n) > stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)


@pytest.mark.parametrize("n", range(1, 9))
def test_the_p_value_floor_is_that_of_the_exact_tests(n):
    """All differences of one sign: no exact test of n pairs gives less."""
    differences = [1.0 + place for place in range(n)]
    assert stats.wilcoxon(differences, method="exact").pvalue == pytest.approx(p_floor(n))
    assert stats.binomtest(n, n).pvalue == pytest.approx(p_floor(n))


@pytest.mark.parametrize("n", [2, 3, 6, 20])
def test_smallest_seen_has_the_promised_power(n):
    """Against the noncentral t distribution itself, for two standard deviations."""
    effect = smallest_seen(2.0, n) / 2.0 * math.sqrt(n)
    assert stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect) == pytest.approx(0.8, abs=1e-6)


def test_one_pair_has_no_smallest_difference():
    with pytest.raises(ValueError, match="no spread"):
        smallest_seen(1.0, 1)
