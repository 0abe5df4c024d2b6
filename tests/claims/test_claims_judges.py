"""Every judge of a claim on planted records: true, false, undecided, and missing.

`pytest tests/claims/test_claims_judges.py`
"""

import math

import pytest

from nmbench.analysis.rows import compare
from nmbench.analysis.statistics import paired
from nmbench.claims import CLAIMS, judge
from nmbench.claims.section import claims_section
from nmbench.document.model import Fold, tables
from nmbench.records.frame import load

NOISE = (0.0, 0.1, -0.1)
SEEDS = range(3)


@pytest.fixture
def verdicts(results):
    """The verdicts of the results folder that are about records, of one claim."""

    def of(claim):
        loaded = load(results.folder)
        assert loaded.unreadable == []
        return [one for one in judge(loaded, compare(loaded.frame)) if claim in (None, one.claim)]

    return of


def sad(total=300, last=5, first=50, layers=(150, 150), first_last=20, **changes):
    """Flips of 100 weights in 9 steps, `first` in each step of the first third, `last` in each of the last."""
    return {
        **{"pattern": "2:4", "weights": 100, "total": total, "step": list(range(1, 10))},
        **{"flips": [first] * 3 + [20] * 3 + [last] * 3, "per_layer": dict(zip("ab", layers, strict=True))},
        "snapshots": {"steps": [0, 9], "consecutive": [first_last], "first_last": first_last},
        **changes,
    }


def add(results, method, mean=80.0, pattern="2:4", seeds=SEEDS, noise=NOISE, lambda_w=None, flips=None, **changes):
    """One cell a seed; `flips` are keywords of `sad`, whose totals differ a little from seed to seed."""
    cell = {**({"hyper": {"lambda_w": lambda_w}} if lambda_w is not None else {}), **changes.pop("cell", {})}
    for seed in seeds:
        if flips is not None:
            own = {key: value + seed if key in ("total", "first_last") else value for key, value in flips.items()}
            changes["sad"] = sad(**own)
        results.add(pattern, method, seed, value=mean + noise[seed], cell=cell, **changes)


def dense(results, mean=80.0, noise=(0.0, 0.0, 0.0), **changes):
    add(results, "dense", mean, "dense", noise=noise, **changes)


def outcomes(found):
    return [one.outcome for one in found]


# -- C1 -----------------------------------------------------------------------------------------------------------
STE = {"total": 300, "layers": (150, 150), "first_last": 30}


def test_c1_the_same_difference_in_every_seed_is_no_evidence(results, verdicts):
    add(results, "ste", flips=STE)
    add(results, "sr-ste", flips={"total": 100, "layers": (50, 50), "first_last": 10})
    assert outcomes(verdicts("C1")) == ["undecided"] * 3


@pytest.mark.parametrize(
    ("totals", "expected"),
    [((100, 120, 90), "pass"), ((500, 520, 490), "fail"), ((100, 500, 290), "undecided")],
)
def test_c1_is_read_off_the_interval(results, verdicts, totals, expected):
    add(results, "ste", flips=STE)
    for seed, total in enumerate(totals):
        record = sad(total=total, layers=(total // 2, total // 2), first_last=total // 10)
        results.add("2:4", "sr-ste", seed, sad=record)
    assert outcomes(verdicts("C1")) == [expected] * 3


@pytest.mark.parametrize("changes", [{"pattern": "4:8"}, {"weights": 99}, {"uncounted": 5}, {"total": None}])
def test_c1_compares_flips_only_where_they_were_counted_alike(results, verdicts, changes):
    add(results, "ste", flips=STE)
    for seed in SEEDS:
        results.add("2:4", "sr-ste", seed, sad=sad(total=90 + 10 * seed) | changes)
    assert [(one.outcome, one.seeds) for one in verdicts("C1")] == [("undecided", 0)]


def by_layer(results, verdicts, second_layer):
    """Layer `a` flips less for certain; `second_layer` are the flips of `b` in SR-STE, STE's being 150."""
    add(results, "ste", flips=STE)
    for seed, (first, second) in enumerate(zip((40, 50, 45), second_layer, strict=True)):
        results.add("2:4", "sr-ste", seed, sad=sad(layers=(first, second)))
    return next(one for one in verdicts("C1") if "every layer" in one.text)


def test_c1_by_layer_takes_every_layer(results, verdicts):
    found = by_layer(results, verdicts, (40, 50, 45))
    assert (found.outcome, found.figures) == (
        "pass",
        "of 2 layers, 2 flip less, 0 more, and of 0 the seeds do not tell",
    )


def test_c1_by_layer_fails_with_one_that_surely_flips_more(results, verdicts):
    found = by_layer(results, verdicts, (250, 252, 251))
    assert found.outcome == "fail"
    assert found.figures.endswith("more: b")


def test_c1_by_layer_one_of_many_that_seems_to_flip_more_may_be_chance(results, verdicts):
    # above 0 with p 0.03, which does not stand Bonferroni's correction for two layers
    gaps = (20, 30, 41)
    assert 0.025 < paired(gaps, [0.0] * 3).p_value < 0.05
    found = by_layer(results, verdicts, tuple(150 + gap for gap in gaps))
    assert found.outcome == "undecided"
    assert found.figures.endswith("more: b, which may be chance among so many")


# -- C2 -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mean", "expected"), [(82.0, "pass"), (78.0, "fail"), (80.02, "undecided")])
def test_c2_a_positive_lambda_w_helps(results, verdicts, mean, expected):
    add(results, "ste", noise=(0.0, 0.0, 0.0))
    add(results, "sr-ste", mean, lambda_w=0.02)
    (found,) = verdicts("C2")
    assert (found.outcome, found.text) == (expected, "lambda_w > 0 is better than none (STE).")


@pytest.mark.parametrize(
    ("totals", "mean", "expected"),
    [
        ((500, 540, 510), 70.0, ["pass", "pass"]),
        ((100, 140, 110), 90.0, ["fail", "fail"]),
        ((100, 600, 300), 80.02, ["undecided", "undecided"]),
    ],
)
def test_c2_a_negative_lambda_w_raises_flips_and_hurts(results, verdicts, totals, mean, expected):
    add(results, "ste", noise=(0.0, 0.0, 0.0), flips=STE)
    for seed, total in enumerate(totals):
        results.add(
            "2:4", "sr-ste", seed, value=mean + NOISE[seed], cell={"hyper": {"lambda_w": -0.02}}, sad=sad(total=total)
        )
    assert outcomes(verdicts("C2")) == expected


@pytest.mark.parametrize(("late", "expected"), [((0, 0, 0), "pass"), ((8, 9, 10), "fail"), ((0, 9, 0), "undecided")])
def test_c2_a_very_large_lambda_w_freezes_the_mask(results, verdicts, late, expected):
    for seed in SEEDS:
        results.add("2:4", "ste", seed, sad=sad(last=30 + seed))
        results.add("2:4", "sr-ste", seed, cell={"hyper": {"lambda_w": 0.2}}, sad=sad())
        results.add("2:4", "sr-ste", seed, cell={"hyper": {"lambda_w": 5.0}}, sad=sad(last=late[seed]))
    found = [one for one in verdicts("C2") if "freezes" in one.text]
    assert outcomes(found) == [expected]
    assert "lambda_w=5" in found[0].row.name


def test_c2_without_a_much_larger_value_none_is_very_large(results, verdicts):
    for value in (0.1, 0.5):
        add(results, "sr-ste", lambda_w=value, flips={})
    add(results, "ste", flips={})
    assert not [one for one in verdicts("C2") if "freezes" in one.text]
    assert len(verdicts("C2")) == 2


def test_lambda_w_is_shown_beside_the_sum_of_the_learning_rates(results, verdicts):
    curve = {"phase": [0, 0], "step": [10, 20], "loss": [1.0, 0.5], "lr": [0.1, 0.3]}
    dense(results)
    add(results, "sr-ste", lambda_w=0.5, curve=curve)
    (found,) = verdicts("C4")
    # 10 steps at 0.1 and 10 at 0.3
    assert found.figures.endswith("lambda_w x sum of learning rates: 0.5 x 4 = 2")
    notes = claims_section([found]).content[0].notes
    assert "acts through the sum of the learning rates" in notes[-1]
    assert "that sum is 30030, and 0.0002 times it is 6" in notes[-1]


# -- C3 -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["ste", "sr-ste"])
@pytest.mark.parametrize(
    ("late", "expected"), [((5, 6, 4), "pass"), ((90, 95, 92), "fail"), ((5, 95, 50), "undecided")]
)
def test_c3_flips_fall(results, verdicts, method, late, expected):
    for seed in SEEDS:
        results.add("2:4", method, seed, sad=sad(last=late[seed]))
    assert outcomes(verdicts("C3")) == [expected]


def test_c3_says_the_rates_in_its_own_unit(results, verdicts):
    for seed in SEEDS:
        results.add("2:4", "ste", seed, sad=sad(first=50, last=4 + seed))
    (found,) = verdicts("C3")
    # 50 flips of 100 weights a step are 500,000 of a million
    assert found.figures.startswith("500000 in the first third, 50000 in the last; -450000 [")


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


def test_a_lower_metric_is_turned_round(results, verdicts):
    epe = {"name": "epe", "unit": "px", "higher_is_better": False, "margin": 1.0}
    dense(results, metric=epe)
    add(results, "sr-ste", 83.0, metric=epe)
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


def test_other_axes_and_settings_are_not_mixed(results, verdicts):
    dense(results)
    add(results, "sr-ste", 77.0, "2:4@kernel")
    add(results, "sr-ste", 77.0, cell={"train": {"epochs": 9}})
    (found,) = verdicts("C4")
    assert "2:4@kernel" in found.row.name


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


def test_c8_of_times_beyond_all_measure(results, verdicts):
    for seed, ratio in zip(SEEDS, (1.5, 1e308, 1.6), strict=True):
        results.add("2:4", "ste", seed, speed=timed(ratio))
    (found,) = verdicts("C8")
    assert (found.outcome, "inf]" in found.figures) == ("undecided", True)


def test_c8_of_a_time_that_is_nothing_beside_the_other(results, verdicts):
    rows = [{"batch": 8, "dense_ms": 1e-300, "converted_ms": 1e300}]
    for seed in SEEDS:
        results.add("2:4", "ste", seed, speed={"device": "x", "dtype": "float16", "rows": rows})
    assert verdicts("C8") == []


def test_c8_without_a_converted_model_is_no_record(results, verdicts):
    results.add(speed={"rows": [{"batch": 8, "dense_ms": 2.0, "converted_ms": None}]})
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


def test_without_records_there_is_no_judgement(verdicts):
    assert verdicts(None) == []


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
