"""C1, C2 and C3 on planted records: true, false, undecided, and missing. `pytest tests/claims/test_claims_masks.py`"""

import pytest
from planted import NOISE, SEEDS, add, dense, outcomes, sad

from nmbench.analysis.statistics import paired
from nmbench.claims.section import claims_section

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
    assert "that sum is 30030: 0.0002 times it, the paper's number, is 6, and 0.0016 times it" in notes[-1]
    assert "(8 ranks summed), is 48" in notes[-1]
    assert notes[-1].endswith("No cell here has lambda_w = 0.0016, which acted in the authors' published runs.")


def test_with_the_lambda_w_that_acted_in_the_authors_runs_it_is_not_missed(results, verdicts):
    curve = {"phase": [0], "step": [10], "loss": [1.0], "lr": [0.1]}
    dense(results)
    add(results, "sr-ste", lambda_w=1.6e-3, curve=curve)
    (note,) = claims_section(verdicts("C4")).content[0].notes[-1:]
    assert "is 48" in note
    assert "No cell here" not in note


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
