"""The tables and lists of a report's sections. `pytest tests/report/test_report_sections.py`"""

import json

import pytest
from cells import shown

from nmbench.document.model import Banner
from nmbench.report.sections import cost, failures, intro, layers, origins, overview, quality, seeds

LOSS = {"name": "loss", "unit": "", "higher_is_better": False, "margin": 0.1}
EPE = {"name": "epe", "unit": "px", "higher_is_better": False, "margin": 0.25}


def titles(table):
    return [column.title for column in table.columns]


def add(results, task, seeds, gap, pattern="2:4", method="sr-ste", **changes):
    """Dense twins at 80 and a bit, and cells that are `gap` away from them in the mean."""
    for seed in range(seeds):
        if not any(results.folder.glob(f"{task}/*-dense-dense-s{seed}-*")):
            results.twin(seed, value=80.0 + seed, cell={"task": task}, **changes)
        value = 80.0 + seed + gap + 0.1 * (seed - (seeds - 1) / 2)
        results.add(pattern, method, seed, value=value, cell={"task": task}, **changes)


# -- the outcome and the overview -----------------------------------------------------------------------------------
def test_the_outcome_says_what_saves_most_without_being_worse(results, blocks):
    add(results, "classification", 3, -0.2)
    add(results, "classification", 3, -0.3, "1:4")
    add(results, "classification", 3, -9.0, "1:16")
    finding, ended = blocks(intro.outcome)
    assert finding.text.startswith("**2 of 3 combinations are not worse than dense.**")
    saving = finding.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "The one of them that saves most: 1:4 sr-ste in classification, top1 -0.30 % [-0.55, -0.05]" in saving
    assert saving.endswith("with 30 % of the MACs.")
    assert ended.text.startswith("All 12 cells ended well.")


def test_a_verdict_of_a_mostly_dense_model_says_so(results, table):
    def audit(width):
        sizes = {"sparse": [width, 16], "dense": [16, 16]}
        return {"layers": [{"name": role, "role": role, "shape": shape} for role, shape in sizes.items()]}

    add(results, "classification", 2, -0.1, audit=audit(4))
    add(results, "classification", 2, -0.1, "1:4", audit=audit(16))
    noted = "2:4 sr-ste: mostly dense: only 20 % of the candidate weights are in sparse layers."
    _, *notes = table(quality.table).notes  # the first says what the verdict is on
    assert [note.replace("\N{NO-BREAK SPACE}", " ") for note in notes] == [noted]


def test_patterns_by_tasks_has_difference_and_verdict_in_every_cell(results, table):
    add(results, "classification", 3, -2.0)
    add(results, "optical-flow", 3, -1.0, metric=EPE)
    add(results, "optical-flow", 3, 1.0, "1:16", "ste", metric=EPE)
    found = table(overview.patterns_by_tasks)
    assert titles(found)[2:4] == ["classification (top1, % ↑)", "optical-flow (epe, px ↓)"]
    assert shown(found) == [
        ["2:4", "sr-ste", "-2.00 worse", "-1.000 better", "+1.00"],
        ["1:16", "ste", "-", "+1.000 worse", "-"],
    ]
    # sorting and CSV see the number; the mean is (-2 / 1 + 1 / 0.25) / 2
    assert [cell.value for cell in found.rows[0][2:]] == pytest.approx([-2.0, -1.0, 1.0])


@pytest.mark.parametrize("other", [{"seeds": 2}, {"seeds": 3, "metric": {**EPE, "margin": 0.0}}])
def test_there_is_no_mean_over_tasks_unless_coverage_is_equal(results, table, other):
    add(results, "a", 3, -2.0)
    add(results, "b", gap=-2.0, **other)
    assert "mean_in_margins" not in [column.key for column in table(overview.patterns_by_tasks).columns]


def test_settings_of_one_task_are_told_apart(results, table):
    results.add(cell={"model": "m"})
    results.add(cell={"model": "n"})
    results.add(cell={"model": "n", "train": {"epochs": 9}})
    results.add(cell={"task": "other"})
    assert [title.split(" (top1")[0] for title in titles(table(overview.patterns_by_tasks))[2:]] == [
        *("classification/m", "classification/n quick (epochs=9)", "classification/n quick", "other"),
    ]


def test_one_task_has_its_methods_and_patterns_instead(results, table):
    add(results, "classification", 3, -2.0)
    add(results, "classification", 3, -3.0, "1:4", "ste")
    results.add("2:4", "sr-ste", 0, value=80.5, cell={"hyper": {"lambda_w": -1.0}})
    found = table(overview.patterns_by_tasks)
    assert titles(found) == ["Method", "2:4", "1:4"]
    assert shown(found) == [
        ["sr-ste", "-2.00 worse", "-"],
        ["sr-ste (lambda_w=-1)", "+0.50 undecided (1 seed)", "-"],
        ["ste", "-", "-3.00 worse"],
    ]
    assert found.notes[-1] == "Dense: 81.00 % (SD 1.00), 3 seeds."


# -- quality --------------------------------------------------------------------------------------------------------
def test_quality_gives_mean_spread_difference_and_verdict(results, table):
    for seed, (dense, sparse) in enumerate([(80, 77), (82, 80), (84, 80)]):
        results.twin(seed, value=dense)
        results.add(seed=seed, value=sparse)
    found = table(quality.table)
    assert "top1 ↑" in titles(found)
    assert shown(found, "dense", "dense") == ["3", "100 %", "82.00 ± 2.00", "-", "reference"]
    difference, verdict = shown(found, "2:4", "sr-ste")[-2:]
    assert shown(found, "2:4", "sr-ste")[:3] == ["3", "50 %", "79.00 ± 1.73"]
    # part of the interval is within the margin of 1
    assert (difference, verdict) == ("-3.00 [-5.48, -0.52]", "worse, perhaps within the margin")
    assert found.rows[1][-1].strong


def test_quality_of_one_seed_has_no_interval(results, table):
    results.twin(value=0.5, metric=LOSS)
    results.add(value=0.75, metric=LOSS)
    found = table(quality.table)
    assert "loss ↓" in titles(found)
    assert shown(found, "2:4", "sr-ste") == ["1", "50 %", "0.7500", "+0.2500", "undecided (1 seed)"]


def test_precision_says_what_could_have_been_seen(results, table):
    add(results, "classification", 6, -0.4)
    results.add("1:4", "ste", 0)
    found = table(seeds.precision)
    assert [column.key for column in found.columns] == [
        *("pattern", "method", "seeds", "sd", "p_value", "p_floor", "smallest_seen", "margin"),
    ]
    first, second = shown(found)
    assert first[:4] == ["2:4", "sr-ste", "6", "0.19 %"]
    assert first[5] == "0.031"
    assert second == ["1:4", "ste", "1", "-", "-", "1", "-", "1 %"]


def test_the_examples_are_apart_from_the_seeds(results, table):
    for seed in range(2):
        dense, sparse = results.twin(seed), results.add(seed=seed)
        (dense.parent / "per_example.json").write_text(json.dumps({"correct": [1.0, 1.0, 0.0, 1.0]}))
        (sparse.parent / "per_example.json").write_text(json.dumps({"correct": [1.0, 0.0, None, 1.0]}))
    found = table(seeds.over_evaluation)
    ((*_, examples, count, difference),) = shown(found)
    assert (examples, count) == ("3", "2")
    assert difference.startswith("-0.3333 [-1.0000, 0.0000]")
    assert found.notes[1] == "2:4 sr-ste: correct is not finite for 1 example."


def test_what_a_plugin_measured_of_every_cell_has_a_table(results, table):
    taken = {"name": "largest-weight", "unit": "m", "value": 1.25, "source": "stranger"}
    results.twin(measurements=[taken])
    results.add(measurements=[{**taken, "value": 2.5}])
    found = table(quality.others)
    assert [(column.title, column.unit) for column in found.columns[2:]] == [("largest-weight", "m")]
    assert shown(found) == [["dense", "dense", "1.25"], ["2:4", "sr-ste", "2.5"]]


# -- cost -----------------------------------------------------------------------------------------------------------
def test_size_has_units_and_shares(results, table):
    results.twin()
    results.add()
    found = table(cost.size)
    assert shown(found, "dense", "dense") == ["84.7 k", "41.0 M", "331 KiB"]
    assert shown(found, "2:4", "sr-ste") == [
        "84.7 k → 43.2 k (51 %)",
        "41.0 M → 22.0 M (54 %)",
        "331 KiB → 176 KiB (1.88×)",
    ]
    assert found.rows[1][3].parts == (("dense", 41_000_000),)


def test_effort_has_passes_and_relative_time(results, table):
    results.twin(memory={"peak_rss_bytes": 3 * 2**30, "peak_gpu_bytes": None})
    results.add(method="asp", memory={"peak_rss_bytes": 3 * 2**30, "peak_gpu_bytes": 2**20})
    results.add(method="ste", timings={"train_s": 1.0, "alone": False})
    found = table(cost.effort)
    assert shown(found, "2:4", "asp") == ["0", "0", "2×", "2.16×", "1.00 MiB"]
    assert shown(found, "2:4", "ste")[-2:] == ["-", "-"]
    assert shown(found, "dense", "dense")[-2:] == ["1×", "3.00 GiB"]
    assert "shadow mask (2:4)" in found.notes[-1]
    assert "twice as many steps" in found.notes[-2]


# -- lists ----------------------------------------------------------------------------------------------------------
def test_layers_left_dense_are_grouped_by_reason(results, table):
    layer = {"role": "dense", "shape": [4, 3], "reason": "too narrow"}
    many = [{**layer, "name": f"l{i}"} for i in range(8)]
    results.add(audit={"pattern": "2:4", "layers": [*many, {"name": "x", "role": "sparse", "shape": [8, 113]}]})
    results.twin(audit={"pattern": None, "layers": [{**layer, "name": "not shown"}]})
    found = table(layers.left_dense)
    names = ", ".join(f"l{i}" for i in range(6))
    assert shown(found) == [["resnet20", "all", "too narrow", f"{names} and 2 more", "96 (9.6 %)"]]
    # a page shows some of the names, a CSV file all
    assert found.rows[0][3].value.endswith("l6, l7")


def test_failures_show_kind_first_line_and_command(results, table):
    results.fail("oom", "\nno | memory\nsecond line")
    results.fail("hang", error=None, command=None, cell={"model": "z"})
    first, second = shown(table(failures.failures))
    assert first[0].startswith("classification/resnet20-2-4-ste-s0-")
    assert first[1:] == ["oom", "no | memory", "nmbench run quick --only resnet20-2-4-ste-s0"]
    assert second[1:] == ["hang", "", "-"]


def test_unreadable_records_are_named(results, table):
    results.add().write_text("{")
    results.twin()
    ((path, why),) = shown(table(failures.unreadable))
    assert "resnet20-2-4-sr-ste-s0" in path
    assert "broken JSON" in why


def test_mixed_origins_raise_a_banner(results, blocks):
    results.twin()
    results.add()
    assert blocks(origins.mixed_in_setting) == ()
    results.add(seed=1, data={"fingerprint": "f" * 64}, environment={"torch": "9.9", "gpu": "Big GPU"})
    (banner,) = blocks(origins.mixed_in_setting)
    assert isinstance(banner, Banner)
    for part in ("torch: 2.11.0 (2 cells), 9.9 (1 cell)", "gpu: none (2 cells), Big GPU (1 cell)", "data of classific"):
        assert part in banner.text


def test_provenance_of_a_task_does_not_ask_other_tasks(results, table):
    results.twin()
    results.twin(cell={"task": "detection"}, data={"fingerprint": "e" * 64})
    results.fail("data")
    results.add(environment={"torch": "2.11.0"})
    found = table(origins.provenance)
    assert shown(found, "data of classification") == ["d" * 16, "2"]
    assert shown(found, "data of detection") == ["e" * 16, "1"]
    assert shown(found, "torch") == ["2.11.0", "4"]


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_twins_that_were_trained_by_other_hardware_are_told(results, blocks, kind):
    for seed, name in enumerate(("H100", "H100", "A100")):
        results.twin(seed, environment={kind: "A100"})
        results.add(seed=seed, environment={kind: name})
    words = [line for block in blocks(intro.cautions) for line in block.items]
    told = [line.replace("\N{NO-BREAK SPACE}", " ") for line in words]
    assert sum("2 cells (A100 and H100)" in line for line in told) == 1
