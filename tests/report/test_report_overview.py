"""The tables over many rows. `pytest tests/report/test_report_overview.py`"""

import json

import pytest

from nmbench.analysis.rows import compare
from nmbench.records.frame import load
from nmbench.report.sections.overview import (
    examples_table,
    methods_by_patterns,
    patterns_by_tasks,
    precision_table,
)

EPE = {"name": "epe", "unit": "px", "higher_is_better": False, "margin": 0.25}


@pytest.fixture
def rows(results):
    return lambda: compare(load(results.folder).frame)


def shown(table):
    """The texts of a table by row, no-break spaces as spaces."""
    return [[cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table.rows]


def add(results, task, seeds, gap, pattern="2:4", method="sr-ste", **changes):
    """Dense twins at 80 and a bit, and cells that are `gap` away from them in the mean."""
    for seed in range(seeds):
        if not any(results.folder.glob(f"{task}/*-dense-dense-s{seed}-*")):
            results.twin(seed, value=80.0 + seed, cell={"task": task}, **changes)
        value = 80.0 + seed + gap + 0.1 * (seed - (seeds - 1) / 2)
        results.add(pattern, method, seed, value=value, cell={"task": task}, **changes)


def test_patterns_by_tasks_has_difference_and_verdict_in_every_cell(results, rows):
    add(results, "classification", 3, -2.0)
    add(results, "optical-flow", 3, -1.0, metric=EPE)
    add(results, "optical-flow", 3, 1.0, "1:16", "ste", metric=EPE)
    table = patterns_by_tasks(rows())
    assert [column.title for column in table.columns[2:4]] == ["classification (top1, % ↑)", "optical-flow (epe, px ↓)"]
    assert shown(table) == [
        ["2:4", "sr-ste", "-2.00 worse", "-1.000 better", "+1.00"],
        ["1:16", "ste", "-", "+1.000 worse", "-"],
    ]
    # sorting and CSV see the number; the mean is (-2 / 1 + 1 / 0.25) / 2
    assert [cell.value for cell in table.rows[0][2:]] == pytest.approx([-2.0, -1.0, 1.0])
    assert table.notes[-1] == "No mean over the columns for 1:16 ste: missing in classification."


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"seeds": 2}, "unequal seeds (a 3, b 2)"),
        ({"seeds": 3, "metric": {**EPE, "margin": 0.0}}, "no margin is declared in b"),
    ],
)
def test_there_is_no_mean_over_tasks_unless_coverage_is_equal(results, rows, other, why):
    add(results, "a", 3, -2.0)
    add(results, "b", gap=-2.0, **other)
    table = patterns_by_tasks(rows())
    assert "mean_in_margins" not in [column.key for column in table.columns]
    assert table.notes[-1] == f"No mean over the columns for 2:4 sr-ste: {why}."


def test_a_row_that_failed_in_one_task_is_missing_there(results, rows):
    add(results, "a", 3, -2.0)
    results.twin(cell={"task": "b"})
    results.fail("nan", method="sr-ste", cell={"task": "b"})
    table = patterns_by_tasks(rows())
    assert shown(table) == [["2:4", "sr-ste", "-2.00 worse", "failed"]]
    assert table.notes[-1] == "No mean over the columns for 2:4 sr-ste: missing in b."


def test_settings_of_one_task_are_told_apart(results, rows):
    results.add(cell={"model": "m"})
    results.add(cell={"model": "n"})
    results.add(cell={"model": "n", "train": {"epochs": 9}})
    results.add(cell={"task": "other"})
    titles = [column.title.split(" (top1")[0] for column in patterns_by_tasks(rows()).columns[2:]]
    assert titles == [
        "classification/m",
        "classification/n quick (epochs=9)",
        "classification/n quick",
        "other",
    ]


def test_one_task_has_no_overview(results, rows):
    results.twin()
    results.add()
    assert patterns_by_tasks(rows()) is None
    assert patterns_by_tasks([]) is None


def test_methods_by_patterns_with_the_default_settings_first(results, rows):
    add(results, "classification", 3, -2.0)
    add(results, "classification", 3, -3.0, "1:4", "ste")
    results.add("2:4", "sr-ste", 0, value=80.5, cell={"hyper": {"lambda_w": -1.0}})
    (table,) = methods_by_patterns(rows())
    assert [column.title for column in table.columns] == ["Method", "2:4", "1:4"]
    assert shown(table) == [
        ["sr-ste", "-2.00 worse", "-"],
        ["sr-ste (lambda_w=-1.0)", "+0.50 undecided (1 seed)", "-"],
        ["ste", "-", "-3.00 worse"],
    ]
    assert table.notes[-1] == "Dense: 81.00 % (SD 1.00), 3 seeds."


def test_one_pattern_or_one_method_is_no_grid(results, rows):
    results.add("2:4", "ste")
    results.add("2:4", "asp")
    assert methods_by_patterns(rows()) == []


def test_precision_says_what_could_have_been_seen(results, rows):
    add(results, "classification", 6, -0.4)
    results.add("1:4", "ste", 0)
    table = precision_table(rows())
    assert [column.key for column in table.columns] == [
        *("pattern", "method", "seeds", "sd", "p_value", "p_floor", "smallest_seen", "margin"),
    ]
    by_row = shown(table)
    assert by_row[0][:4] == ["2:4", "sr-ste", "6", "0.19 %"]
    assert by_row[0][5] == "0.031"
    assert by_row[1] == ["1:4", "ste", "1", "-", "-", "1", "-", "1 %"]
    assert precision_table([]) is None


def test_the_examples_are_apart_from_the_seeds(results):
    for seed in range(2):
        dense, sparse = results.twin(seed), results.add(seed=seed)
        (dense.parent / "per_example.json").write_text(json.dumps({"correct": [1.0, 1.0, 0.0, 1.0]}))
        (sparse.parent / "per_example.json").write_text(json.dumps({"correct": [1.0, 0.0, None, 1.0]}))
    loaded = load(results.folder)
    table = examples_table(compare(loaded.frame), loaded)
    ((*_, examples, seeds, difference),) = shown(table)
    assert (examples, seeds) == ("3", "2")
    assert difference.startswith("-0.3333 [-1.0000, 0.0000]")
    assert "not added up" in table.notes[0]
    assert table.notes[1] == "2:4 sr-ste: correct is not finite for 1 example."


def test_no_stored_values_no_table(results):
    results.twin()
    results.add()
    loaded = load(results.folder)
    assert examples_table(compare(loaded.frame), loaded) is None
