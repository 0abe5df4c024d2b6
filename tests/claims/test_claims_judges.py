"""C4 to C9 on planted records: true, false, undecided, and missing; and the section that shows all claims."""

import math

import pytest
from planted import SEEDS, add, dense, outcomes

from nmbench.claims import CLAIMS
from nmbench.claims.section import claims_section
from nmbench.document.model import Fold, tables

# -- C4, C6, C7 ---------------------------------------------------------------------------------------------------
#: (mean, expected with a margin of 1): refuted only where all of the interval is beyond the margin
WITHIN = [(82.0, "pass"), (79.9, "pass"), (79.5, "pass"), (79.1, "undecided"), (78.9, "undecided"), (77.0, "fail")]


@pytest.mark.parametrize(("mean", "expected"), WITHIN)
def test_c4_not_worse_than_dense(results, verdicts, mean, expected):
    dense(results)
    add(results, "sr-ste", mean)
    (found,) = verdicts("C4")
    assert found.outcome == expected
    assert "margin 1 %" in found.figures
    assert ("perhaps within the margin" in found.figures) == (expected == "undecided")


@pytest.mark.parametrize(
    ("mean", "expected"), [(80.5, "pass"), (79.5, "fail"), (80.02, "undecided"), (80.0, "undecided")]
)
def test_c4_better_than_ste(results, verdicts, mean, expected):
    add(results, "ste", noise=(0.0, 0.0, 0.0))
    add(results, "sr-ste", mean)
    assert outcomes(verdicts("C4")) == [expected]


def test_c4_equal_to_ste_in_every_seed_is_not_better(results, verdicts):
    add(results, "ste")
    add(results, "sr-ste")
    assert outcomes(verdicts("C4")) == ["fail"]


@pytest.mark.parametrize("mean", [82.0, 77.0])
def test_c7_is_c4_in_another_task(results, verdicts, mean):
    dense(results, cell={"task": "translation"})
    add(results, "sr-ste", mean, cell={"task": "translation"})
    assert verdicts("C4") == []
    assert outcomes(verdicts("C7")) == ["pass" if mean > 80 else "fail"]


@pytest.mark.parametrize(("mean", "expected"), WITHIN)
def test_c6_one_pass_against_asp_at_every_pattern(results, verdicts, mean, expected):
    for pattern in ("2:4", "1:4"):
        add(results, "asp", pattern=pattern, noise=(0.0, 0.0, 0.0))
        add(results, "sr-ste", mean, pattern)
    assert outcomes(verdicts("C6")) == [expected] * 2


def test_no_row_is_picked_by_its_result(results, verdicts):
    """Every lambda_w > 0 is judged by itself, the bad ones too; the very large one is another claim's."""
    dense(results)
    for value, mean in ((None, 70.0), (0.02, 82.0), (0.2, 70.0), (5.0, 90.0), (-0.02, 60.0)):
        add(results, "sr-ste", mean, lambda_w=value)
    assert sorted(outcomes(verdicts("C4"))) == ["fail", "fail", "pass"]


# -- C5 -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("large", "small"), [("4:8", "2:4"), ("2:8", "1:4")])
@pytest.mark.parametrize(("mean", "expected"), [(81.0, "pass"), (79.0, "fail"), (80.02, "undecided")])
def test_c5_a_larger_m(results, verdicts, large, small, mean, expected):
    add(results, "ste", pattern=small, noise=(0.0, 0.0, 0.0))
    add(results, "ste", mean, large)
    add(results, "asp", 99.0, large)  # has no partner
    (found,) = verdicts("C5")
    assert (found.outcome, found.text) == (expected, f"{large} is better than {small}.")


# -- C8, C9 -------------------------------------------------------------------------------------------------------
def timed(ratio, batch=8):
    return {"device": "x", "dtype": "float16", "rows": [{"batch": batch, "dense_ms": ratio, "converted_ms": 1.0}]}


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [((1.5, 1.6, 1.55), "pass"), ((0.5, 0.55, 0.6), "fail"), ((0.5, 2.0, 1.0), "undecided"), ((1.0, 1.0, 1.0), "fail")],
)
def test_c8_is_judged_from_measured_speed(results, verdicts, ratios, expected):
    for seed in SEEDS:
        results.add("2:4", "ste", seed, speed=timed(ratios[seed]))
        results.add("1:4", "ste", seed, speed=timed(9.0 + seed))
    assert outcomes(verdicts("C8")) == [expected]


def test_c8_of_a_time_that_is_nothing_beside_the_other(results, verdicts):
    rows = [{"batch": 8, "dense_ms": 1e-300, "converted_ms": 1e300}]
    for seed in SEEDS:
        results.add("2:4", "ste", seed, speed={"device": "x", "dtype": "float16", "rows": rows})
    assert verdicts("C8") == []


def trained(seconds, **changes):
    return {"train_s": seconds, "alone": True, "resumed": False, **changes}


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.02, "pass"), (0.5, "pass"), (1.2, "fail"), (1.05, "undecided"), (1.06, "undecided")]
)
def test_c9_training_time(results, verdicts, factor, expected):
    for seed, noise in enumerate((1.0, 1.01, 0.99)):
        results.twin(seed, timings=trained(100.0), sad={})
        results.add("2:4", "sr-ste", seed, timings=trained(100.0 * factor * noise))
    (found,) = verdicts("C9")
    assert found.outcome == expected
    assert found.text.endswith("than dense.")
    middle = math.exp(sum(math.log(factor * noise) for noise in (1.0, 1.01, 0.99)) / 3)
    assert f"{middle:.3f} [" in found.figures


@pytest.mark.parametrize("changes", [{"alone": False}, {"resumed": True}, {"train_s": 0.0}, {"train_s": None}])
def test_c9_takes_only_times_that_may_be_compared(results, verdicts, changes):
    for seed in SEEDS:
        results.twin(seed, timings=trained(100.0))
        results.add("2:4", "sr-ste", seed, timings=trained(100.0 + seed, **changes))
    assert verdicts("C9") == []


# -- all ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seeds", [range(1), range(2)])
def test_fewer_than_three_seeds_decide_nothing(results, verdicts, seeds):
    for method, pattern in (("dense", "dense"), ("ste", "2:4"), ("asp", "2:4"), ("ste", "4:8")):
        add(results, method, pattern=pattern, seeds=seeds, noise=(0.0, 0.0), speed=timed(3.0))
    add(results, "sr-ste", 99.0, seeds=seeds, speed=timed(3.0))
    for claim in CLAIMS:
        assert set(outcomes(verdicts(claim))) <= {"undecided"}, claim


def test_cells_that_saw_other_data_are_not_paired_and_it_is_said(results, verdicts):
    dense(results)
    add(results, "sr-ste", 77.0, seeds=range(1, 3))
    add(results, "sr-ste", 77.0, seeds=[0], data={"fingerprint": "other"})
    (found,) = verdicts("C4")
    assert (found.seeds, found.outcome) == (2, "undecided")
    assert "saw other data: seed 0" in found.figures


def planted(results, tasks, patterns):
    """Dense, STE and SR-STE, with their flips, in each task and at each pattern."""
    for task in tasks:
        dense(results, cell={"task": task})
        for pattern in patterns:
            for method in ("ste", "sr-ste"):
                add(results, method, 77.0, pattern, cell={"task": task}, flips={})


def test_the_section_counts_by_outcome_and_names_what_cannot_be_judged(results, verdicts):
    dense(results)
    add(results, "sr-ste", 77.0)
    results.add("2:4", "asp", 0)
    judged = verdicts(None)
    summary, *_, words = claims_section(judged).content
    counts = {row[0].text: [cell.text for cell in row[2:]] for row in summary.rows}
    assert counts["C4"] == ["-", "1", "-"]
    assert words.text.startswith("Too few seeds to judge C6: it takes 3 at least. No record here is about C1, C2,")


def table_of(title, judged):
    return next(table for table in tables(claims_section(judged)) if table.title == title)


def test_a_statement_has_a_table_and_the_setting_that_all_share_stands_with_its_title(results, verdicts):
    planted(results, ["classification"], ["2:4", "2:4@kernel"])
    shown = table_of("C4. At 2:4, SR-STE is better than STE.", verdicts(None))
    assert shown.about == "classification/resnet20 quick"
    assert [row[0].text for row in shown.rows] == ["2:4 sr-ste", "2:4@kernel sr-ste"]
    planted(results, ["translation"], ["2:4"])
    other = table_of("C7. At 2:4, SR-STE is better than STE.", verdicts(None))
    assert other.about == ""
    assert other.rows[0][0].text == "translation/resnet20 quick, 2:4 sr-ste"


def test_many_comparisons_fold_away(results, verdicts):
    planted(results, ["classification"], ["2:4", "1:4", "2:8"])
    judged = verdicts(None)
    assert len(judged) > 12
    _, fold, _ = claims_section(judged).content
    assert isinstance(fold, Fold)
    assert sum(len(table.rows) for table in fold.content) == len(judged)
    assert len(claims_section(judged[:3]).content[1].rows) <= 3
