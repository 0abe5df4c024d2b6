"""One interval, one verdict: in tables, claims and between sets. `pytest tests/analysis/test_analysis_verdict.py`"""

import pytest

from nmbench.analysis.rows import compare
from nmbench.analysis.verdict import Verdict, verdict
from nmbench.claims import judge
from nmbench.records.frame import load

NOISE = (0.0, 0.1, -0.1)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 0.5), "better"),
        ((0.0, 0.0), "not worse"),
        ((-0.9, 0.5), "not worse"),
        ((-0.9, -0.1), "not worse"),
        ((-1.0, -0.1), "worse, perhaps within the margin"),
        ((-1.5, -0.999), "worse, perhaps within the margin"),
        ((-1.5, -1.0), "worse"),
        ((-9.0, -2.0), "worse"),
        ((-1.5, 0.0), "undecided"),
        ((-1.5, 3.0), "undecided"),
    ],
)
def test_the_verdict_is_where_the_interval_lies(interval, expected):
    assert verdict(interval, margin=1.0) is Verdict(expected)
    assert verdict((-interval[1], -interval[0]), higher_is_better=False, margin=1.0) is Verdict(expected)


def test_without_a_margin_all_that_is_below_zero_is_worse():
    assert verdict((-1.0, -0.1)) is Verdict.WORSE
    assert verdict((-1.0, 0.0)) is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("mean", "expected", "outcome"),
    [
        (77.0, Verdict.WORSE, "fail"),
        (79.1, Verdict.PERHAPS_WORSE, "undecided"),
        (79.5, Verdict.NOT_WORSE, "pass"),
        (82.0, Verdict.BETTER, "pass"),
    ],
)
def test_a_table_and_a_claim_say_the_same_of_one_interval(results, mean, expected, outcome):
    for seed in range(3):
        results.twin(seed, value=80.0)
        results.add(seed=seed, value=mean + NOISE[seed])
    loaded = load(results.folder)
    rows = compare(loaded.frame)
    row = next(row for row in rows if not row.is_dense)
    claim = next(one for one in judge(loaded, rows) if one.claim == "C4")
    assert row.verdict is expected
    assert claim.outcome == outcome
    assert expected.value in claim.figures.split("; ")
