"""What newer methods claim against SR-STE, judged from made-up records. `pytest tests/claims/test_newer_claims.py`"""

import pytest

from nmbench.analysis.study import Study
from nmbench.claims.newer import ASSERTIONS, Newer
from nmbench.document.model import Report, tables
from nmbench.records.frame import load
from nmbench.sparsity import methods


@pytest.fixture
def judged(results, tmp_path):
    """(method, where) -> (seen here, difference) of each row of the section."""

    def found():
        study = Study.of(load(results.folder), tmp_path)
        made = list(tables(Report("", tuple(Newer().blocks(study, study.rows)))))
        if not made:
            return {}
        said, here = made
        assert {row[0].text for row in said.rows} == {row[0].text for row in here.rows}
        return {(row[0].text, row[1].text.split(", ")[-1]): (row[2].text, row[3].text) for row in here.rows}

    return found


def add(results, method, *values, pattern="2:4", **changes):
    for seed, value in enumerate(values):
        results.add(pattern, method, seed, value=value, **changes)


def test_a_claim_is_seen_or_not_or_undecided(results, judged):
    add(results, "sr-ste", 80.0, 82.0, 81.0)
    add(results, "lbc", 81.0, 83.1, 82.0)
    add(results, "maxq", 79.0, 80.9, 80.0)
    add(results, "s-ste", 80.5, 81.5, 81.2)
    add(results, "bi-mask", 79.9, 81.8, 80.9)  # not worse by the margin of 1
    add(results, "gmp", 90.0, 90.1, 90.2)  # claims nothing
    seen = judged()
    assert {method: words for (method, _), (words, _) in seen.items()} == {
        "lbc": "yes", "maxq": "no", "s-ste": "undecided", "bi-mask": "yes"
    }  # fmt: skip
    assert seen["lbc", "2:4"][1].startswith("+1.03 % [")


def test_two_seeds_decide_nothing(results, judged):
    add(results, "sr-ste", 80.0, 80.1)
    add(results, "lbc", 90.0, 90.1)
    assert judged()["lbc", "2:4"][0] == "undecided"


def test_a_claim_about_high_sparsity_is_asked_there_alone(results, judged):
    for pattern in ("1:4", "1:16"):
        add(results, "sr-ste", 80.0, 82.0, 81.0, pattern=pattern)
        add(results, "decaying-mask", 82.0, 84.0, 83.1, pattern=pattern)
    assert list(judged()) == [("decaying-mask", "1:16")]


def test_without_sr_ste_at_the_same_pattern_nothing_is_said(results, judged):
    add(results, "sr-ste", 80.0, 82.0, 81.0, pattern="1:4")
    add(results, "lbc", 82.0, 84.0, 83.1)
    assert judged() == {}


def test_every_claim_is_of_a_method_that_there_is_and_has_a_source():
    assert {one.method for one in ASSERTIONS} <= set(methods.names())
    assert all(one.source and one.words for one in ASSERTIONS)


def test_a_claim_about_2_4_is_asked_there_alone(results, judged):
    for pattern in ("2:4", "1:4"):
        add(results, "sr-ste", 80.0, 82.0, 81.0, pattern=pattern)
        add(results, "s-ste", 82.0, 84.0, 83.1, pattern=pattern)
    assert list(judged()) == [("s-ste", "2:4")]
