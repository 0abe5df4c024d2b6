"""Does the tool cry wolf, and does it find what is there? Simulations with fixed seeds, against the promised rates.

`pytest tests/analysis/test_analysis_statistics_simulated.py`

A rate of p in n simulations spreads by sqrt(p (1 - p) / n); every bound here is four such standard deviations away.
"""

import math
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from nmbench.analysis.rows import compare
from nmbench.analysis.statistics import POWER, paired, smallest_seen
from nmbench.analysis.verdict import Verdict
from nmbench.records.frame import frame

TIMES = 1500
pytestmark = pytest.mark.slow


def at_most(rate, times=TIMES):
    return rate + 4 * math.sqrt(rate * (1 - rate) / times)


def at_least(rate, times=TIMES):
    return rate - 4 * math.sqrt(rate * (1 - rate) / times)


def accuracies(draw, shape, spread=0.4):
    """Top-1 in percent as 2000 examples give it: steps of 0.05, seeds that differ by `spread`."""
    return np.round(20 * (95.0 + draw.normal(0, spread, shape))) / 20


def losses(draw, shape):
    """A skewed metric, as a loss or an end-point error is."""
    return draw.lognormal(0.0, 0.3, shape)


@pytest.mark.parametrize("seeds", [4, 12])
@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("values", [accuracies, losses])
def test_dense_against_dense_does_not_cry_wolf(seeds, margin, values):
    """One half of a dense row's seeds against the other half: better or worse in at most 5 %."""
    draw = np.random.default_rng([seeds, int(100 * margin)])
    runs = values(draw, (TIMES, seeds))
    first, second = runs[:, : seeds // 2], runs[:, seeds // 2 :]
    verdicts = [paired(a, b, margin=margin).verdict for a, b in zip(first, second, strict=True)]
    assert sum(verdict is Verdict.BETTER or verdict.below for verdict in verdicts) / TIMES <= at_most(0.05)


CLAIMS = Path(__file__).parents[2] / "results" / "reference" / "claims"


@pytest.mark.skipif(not CLAIMS.is_dir(), reason="needs the committed records")
def test_halves_of_real_dense_seeds_do_not_differ():
    """Every way to pair one half of the committed dense seeds with the other: the same models, so no verdict."""
    (dense,) = (row for row in compare(frame(CLAIMS)) if row.is_dense)
    seeds = range(len(dense.values))
    verdicts = [
        paired([dense.values[one] for one in half], [dense.values[one] for one in other], margin=0.0).verdict
        for half in combinations(seeds, len(seeds) // 2)
        for other in permutations([one for one in seeds if one not in half])
    ]
    assert len(verdicts) >= 100
    assert sum(verdict in ("better", "worse") for verdict in verdicts) <= 0.05 * len(verdicts)


def test_a_model_that_is_worse_by_the_margin_is_seldom_called_not_worse():
    """In at most 2.5 %, for that is what an interval of 95 % leaves on one side."""
    draw = np.random.default_rng(5)
    verdicts = [
        paired(row - 1.0 + draw.normal(0, 0.5, 6), row, margin=1.0).verdict for row in draw.normal(90, 1, (TIMES, 6))
    ]
    assert sum(verdict in ("better", "not worse") for verdict in verdicts) / TIMES <= at_most(0.025)


@pytest.mark.parametrize("seeds", [2, 6])
def test_the_interval_covers_the_truth_in_95_percent(seeds):
    draw = np.random.default_rng(seeds)
    dense = draw.normal(70, 2.0, (TIMES, seeds))
    covered = 0
    for row in dense:
        low, high = paired(row + draw.normal(0.7, 0.5, seeds), row).interval
        covered += low <= 0.7 <= high
    assert at_least(0.95) <= covered / TIMES <= at_most(0.95)


@pytest.mark.parametrize("seeds", [2, 6])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_planted_difference_is_found_as_often_as_smallest_seen_promises(seeds, sign):
    draw = np.random.default_rng([seeds, sign + 1])
    planted = sign * smallest_seen(0.5, seeds)
    dense = draw.normal(70, 2.0, (TIMES, seeds))
    verdicts = [paired(row + draw.normal(planted, 0.5, seeds), row).verdict for row in dense]
    found = sum(verdict == ("better" if sign > 0 else "worse") for verdict in verdicts)
    assert at_least(POWER) <= found / TIMES <= at_most(POWER)
