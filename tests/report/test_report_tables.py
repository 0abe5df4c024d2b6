"""Tables and lists, as a page shows them. `pytest tests/report/test_report_tables.py`"""

import pytest

from nmbench.analysis.rows import compare
from nmbench.document import words
from nmbench.document.fit import heading
from nmbench.records.frame import Unreadable, frame, load, newest
from nmbench.report.sections import lists
from nmbench.report.sections.cost import effort, size
from nmbench.report.sections.origins import mixed, provenance
from nmbench.report.sections.tables import quality

LOSS = {"name": "loss", "unit": "", "higher_is_better": False, "margin": 0.1}


def cells(table, *wanted):
    """The texts of the one row that begins with `wanted`, with ordinary spaces."""
    rows = [[cell.text.replace(words.NBSP, " ") for cell in row] for row in table.rows]
    (row,) = [row for row in rows if tuple(row[: len(wanted)]) == wanted]
    return row[len(wanted) :]


def titles(table):
    return [heading(column) for column in table.columns]


def test_quality_gives_mean_spread_difference_and_verdict(results):
    for seed, (dense, sparse) in enumerate([(80, 77), (82, 80), (84, 80)]):
        results.twin(seed, value=dense)
        results.add(seed=seed, value=sparse)
    table = quality(compare(frame(results.folder)))
    assert "top1 ↑ (%)" in titles(table)
    assert cells(table, "dense", "dense") == ["3", "100 %", "82.00 ± 2.00", "-", "reference"]
    assert cells(table, "2:4", "sr-ste") == ["3", "50 %", "79.00 ± 1.73", "-3.00 [-5.48, -0.52]", "worse"]
    assert table.rows[1][-1].strong


def test_quality_of_one_seed_has_no_interval(results):
    results.twin(value=0.5, metric=LOSS)
    results.add(value=0.75, metric=LOSS)
    table = quality(compare(frame(results.folder)))
    assert "loss ↓" in titles(table)
    assert cells(table, "2:4", "sr-ste") == ["1", "50 %", "0.7500", "+0.2500", "undecided (1 seed)"]


def test_settings_that_are_not_the_default_stand_beside_the_method(results):
    results.twin()
    results.add(cell={"hyper": {"lambda_w": 0.001, "schedule": "a|b"}})
    assert cells(quality(compare(frame(results.folder))), "2:4")[0] == "sr-ste (lambda_w=0.001, schedule=a|b)"


def test_size_has_units_and_shares(results):
    results.twin()
    results.add()
    table = size(compare(frame(results.folder)))
    assert cells(table, "dense", "dense") == ["84.7 k", "41.0 M", "331 KiB"]
    assert cells(table, "2:4", "sr-ste") == [
        "84.7 k → 43.2 k (51 %)",
        "41.0 M → 22.0 M (54 %)",
        "331 KiB → 176 KiB (1.88×)",
    ]
    assert table.rows[1][3].parts == (("dense", 41_000_000),)


def test_effort_has_passes_and_relative_time(results):
    results.twin()
    results.add(method="asp")
    results.add(method="ste", timings={"train_s": 1.0, "alone": False})
    table = effort(compare(frame(results.folder)))
    assert cells(table, "2:4", "asp") == ["0", "0", "2×", "2.16×"]
    assert cells(table, "2:4", "ste")[-1] == "-"
    assert cells(table, "dense", "dense")[-1] == "1×"
    assert "Memory" not in titles(table)
    assert "shadow mask (2:4)" in table.notes[-1]
    assert "twice as many steps" in table.notes[-2]


def test_effort_has_the_memory_where_it_was_recorded(results):
    results.twin(memory={"peak_rss_bytes": 3 * 2**30, "peak_gpu_bytes": None})
    results.add(memory={"peak_rss_bytes": 3 * 2**30, "peak_gpu_bytes": 2**20})
    table = effort(compare(frame(results.folder)))
    assert titles(table)[-1] == "Memory"
    assert [cells(table, pattern)[-1] for pattern in ("dense", "2:4")] == ["3.00 GiB", "1.00 MiB"]


def test_without_an_ok_cell_there_is_no_cost(results):
    results.fail("oom")
    assert size(compare(frame(results.folder))) is effort(compare(frame(results.folder))) is None


def test_layers_left_dense_are_grouped_by_reason(results):
    layer = {"role": "dense", "shape": [4, 3], "reason": "too narrow"}
    many = [{**layer, "name": f"l{i}"} for i in range(8)]
    results.add(audit={"pattern": "2:4", "layers": [*many, {"name": "x", "role": "sparse", "shape": [8, 113]}]})
    results.twin(audit={"pattern": None, "layers": [{**layer, "name": "not shown"}]})
    table = lists.layers_left_dense(load(results.folder).records)
    names = ", ".join(f"l{i}" for i in range(6))
    assert cells(table, "resnet20") == ["all", "too narrow", f"{names} and 2 more", "96 (9.6 %)"]
    assert len(table.rows) == 1
    # a page shows some of the names, a CSV file all
    assert table.rows[0][3].value.endswith("l6, l7")


def test_failures_show_kind_first_line_and_command(results):
    results.fail("oom", "\nno | memory\nsecond line")
    (row,) = lists.failures(newest(frame(results.folder))).rows
    assert row[0].text.startswith("classification/resnet20-2-4-ste-s0-")
    assert [cell.text for cell in row[1:]] == ["oom", "no | memory", "nmbench run quick --only resnet20-2-4-ste-s0"]


def test_a_failure_without_a_word_is_still_a_row(results):
    results.fail("hang", error=None, command=None)
    (row,) = lists.failures(newest(frame(results.folder))).rows
    assert [cell.text for cell in row[1:]] == ["hang", "", "-"]


def test_unreadable_records_are_named():
    assert cells(lists.unreadable([Unreadable("a/record.json", "half a file")]), "a/record.json") == ["half a file"]
    assert lists.unreadable([]) is None


def test_mixed_origins_raise_a_banner(results):
    results.twin()
    results.add()
    assert mixed(load(results.folder).records) == ""
    results.add(seed=1, data={"fingerprint": "f" * 64}, environment={"torch": "9.9", "gpu": "Big GPU"})
    banner = mixed(load(results.folder).records)
    assert banner.startswith("**Mixed origins.**")
    for part in ("torch: 2.11.0 (2 cells), 9.9 (1 cell)", "gpu: none (2 cells), Big GPU (1 cell)", "data of classific"):
        assert part in banner


def test_provenance_of_a_task_does_not_ask_other_tasks(results):
    results.twin()
    results.twin(cell={"task": "detection"}, data={"fingerprint": "e" * 64})
    results.fail("data")
    results.add(environment={"torch": "2.11.0"})
    table = provenance(load(results.folder).records)
    assert cells(table, "data of classification") == ["d" * 16, "2"]
    assert cells(table, "data of detection") == ["e" * 16, "1"]
    assert cells(table, "torch") == ["2.11.0", "4"]


@pytest.mark.parametrize(
    ("value", "si", "binary"),
    [
        (0, "0", "0 B"),
        (999, "999", "999 B"),
        (1023.9, "1.02 k", "1.00 KiB"),
        (999_999, "1.00 M", "977 KiB"),
        (1_234_567, "1.23 M", "1.18 MiB"),
        (41_000_000_000, "41.0 G", "38.2 GiB"),
    ],
)
def test_units(value, si, binary):
    assert words.si(value).replace(words.NBSP, " ") == si
    assert words.binary(value).replace(words.NBSP, " ") == binary


def test_no_negative_zero():
    assert (words.signed(-0.001, 2), words.number(-0.001, 2), words.signed(0.01, 2)) == ("0.00", "0.00", "+0.01")


@pytest.mark.parametrize(
    ("value", "markdown"),
    [
        ("a | b\nc", "a \\| b c"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("lambda_w _x_", "lambda_w \\_x\\_"),
        ("[link](x) *b* `c`", "\\[link\\](x) \\*b\\* \\`c\\`"),
        ("-0.5 [-1, +1]", "-0.5 [-1, +1]"),
    ],
)
def test_text_cannot_break_the_page(value, markdown):
    assert words.text(value) == markdown


def test_code_holds_backticks_and_pipes():
    assert words.code("a `b` | c") == "`` a `b` | c ``"
    assert words.code("") == ""
