"""Tables and lists as markdown. `pytest tests/report/test_report_tables.py`"""

import pytest

from nmbench.report import lists, words
from nmbench.report.compare import compare
from nmbench.report.frame import Unreadable, frame, load, newest
from nmbench.report.provenance import mixed, provenance
from nmbench.report.tables import cost, quality

LOSS = {"name": "loss", "unit": "", "higher_is_better": False, "margin": 0.1}


def cells(markdown, *wanted):
    """The cells of the table row that begins with `wanted`, with ordinary spaces."""
    lines = [line.strip("|").split("|") for line in markdown.replace(words.NBSP, " ").splitlines()]
    (row,) = [row for row in ([cell.strip() for cell in line] for line in lines) if tuple(row[: len(wanted)]) == wanted]
    return row[len(wanted) :]


def test_quality_gives_mean_spread_difference_and_verdict(results):
    for seed, (dense, sparse) in enumerate([(80, 77), (82, 80), (84, 80)]):
        results.twin(seed, value=dense)
        results.add(seed=seed, value=sparse)
    table = quality(compare(frame(results.folder)))
    assert "top1 (%) ↑" in table
    assert cells(table, "dense", "dense") == ["3", "100 %", "82.00 ± 2.00", "-", "reference"]
    assert cells(table, "2:4", "sr-ste") == ["3", "50 %", "79.00 ± 1.73", "-3.00 [-5.48, -0.52]", "**worse**"]


def test_quality_of_one_seed_has_no_interval(results):
    results.twin(value=0.5, metric=LOSS)
    results.add(value=0.75, metric=LOSS)
    table = quality(compare(frame(results.folder)))
    assert "loss ↓" in table
    assert cells(table, "2:4", "sr-ste") == ["1", "50 %", "0.7500", "+0.2500", "undecided (1 seed)"]


def test_settings_that_are_not_the_default_stand_beside_the_method(results):
    results.twin()
    results.add(cell={"hyper": {"lambda_w": 0.001, "schedule": "a|b"}})
    assert "sr-ste (lambda_w=0.001, schedule=a\\|b)" in quality(compare(frame(results.folder)))


def test_cost_has_units_passes_and_relative_time(results):
    results.twin()
    results.add(method="asp")
    results.add(method="ste", timings={"train_s": 1.0, "alone": False})
    table = cost(compare(frame(results.folder)))
    macs, size, sad, per_weight, passes, time = cells(table, "2:4", "asp")
    assert (macs, size) == ("41.0 M → 22.0 M (54 %)", "331 KiB → 176 KiB (1.88×)")
    assert (sad, per_weight, passes, time) == ("0", "0", "2×", "2.16×")
    assert cells(table, "2:4", "ste")[-1] == "-"
    assert cells(table, "dense", "dense")[:2] == ["41.0 M", "331 KiB"]
    assert "shadow mask (2:4)" in table
    assert "twice as many steps" in table


def test_cost_without_an_ok_cell_is_said_in_words(results):
    results.fail("oom")
    assert cost(compare(frame(results.folder))).startswith("No cell of this setting ended well")


def test_layers_left_dense_are_grouped_by_reason(results):
    layer = {"role": "dense", "shape": [4, 3], "reason": "too narrow"}
    many = [{**layer, "name": f"l{i}"} for i in range(8)]
    results.add(audit={"pattern": "2:4", "layers": [*many, {"name": "x", "role": "sparse", "shape": [8, 113]}]})
    results.twin(audit={"pattern": None, "layers": [{**layer, "name": "not shown"}]})
    table = lists.layers_left_dense(load(results.folder).records)
    names = ", ".join(f"`l{i}`" for i in range(6))
    assert cells(table, "resnet20") == ["all", "too narrow", f"{names} and 2 more", "96 (9.6 %)"]
    assert "not shown" not in table


def test_failures_show_kind_first_line_and_command(results):
    results.fail("oom", "\nno | memory\nsecond line")
    table = lists.failures(newest(frame(results.folder)))
    assert "| oom " in table
    assert "`no \\| memory`" in table
    assert "second line" not in table
    assert lists.commands(newest(frame(results.folder))) == ["nmbench run quick --only resnet20-2-4-ste-s0"]


def test_a_failure_without_a_word_is_still_a_row(results):
    results.fail("hang", error=None, command=None)
    assert "hang" in lists.failures(newest(frame(results.folder)))
    assert lists.commands(newest(frame(results.folder))) == []


def test_unreadable_records_are_named():
    assert "`a/record.json`" in lists.unreadable([Unreadable("a/record.json", "half a file")])
    assert lists.unreadable([]) == ""


def test_mixed_origins_raise_a_banner(results):
    results.twin()
    results.add()
    assert mixed(load(results.folder).records) == ""
    results.add(seed=1, data={"fingerprint": "f" * 64}, environment={"torch": "9.9", "gpu": "Big GPU"})
    banner = mixed(load(results.folder).records)
    assert banner.startswith("> **Mixed origins.**")
    for part in ("torch: 2.11.0 (2 cells), 9.9 (1 cell)", "gpu: none (2 cells), Big GPU (1 cell)", "data of classific"):
        assert part in banner


def test_provenance_of_a_task_does_not_ask_other_tasks(results):
    results.twin()
    results.twin(cell={"task": "detection"}, data={"fingerprint": "e" * 64})
    results.fail("data")
    results.add(environment={"torch": "2.11.0"})
    table = provenance(load(results.folder).records)
    assert cells(table, "data of classification") == ["d" * 16]
    assert cells(table, "data of detection") == ["e" * 16]
    assert cells(table, "torch") == ["2.11.0"]


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
    ],
)
def test_text_cannot_break_the_page(value, markdown):
    assert words.text(value) == markdown


def test_code_holds_backticks_and_pipes():
    assert words.code("a `b` | c") == "`` a `b` \\| c ``"
    assert words.code("") == ""
