"""What the report reads out of a record's `speed` section: columns of the frame, and claim C8."""

from typing import Any

import pytest
from cells import shown

from nmbench.analysis.rows import compare
from nmbench.claims.cost import faster
from nmbench.records.frame import load
from nmbench.report.sections.speed import speed as section


def speed(*rows: tuple[int, float, float | None], device: str = "Example GPU", **more: Any) -> dict[str, Any]:
    """A speed section: (batch, dense ms, converted ms) a row."""
    made = [
        {
            "batch": batch,
            "dense_ms": dense,
            "converted_ms": converted,
            "dense_per_s": 1e3 * batch / dense,
            "converted_per_s": None if converted is None else 1e3 * batch / converted,
            "ratio": None if converted is None else dense / converted,
        }
        for batch, dense, converted in rows
    ]
    return {"device": device, "dtype": "bfloat16", "how": "cuda-graph", "rows": made, "layers": [], "notes": []} | more


def verdicts(results: Any) -> list[Any]:
    loaded = load(results.folder)
    return list(faster(loaded, compare(loaded.frame)))


def test_the_frame_has_the_largest_batch(results: Any) -> None:
    results.twin()
    results.add(speed=speed((64, 8.0, 5.0), (1, 2.0, 4.0)))
    frame = load(results.folder).frame.set_index("pattern")
    assert frame.loc["2:4", ["speed_batch", "speed_dense_ms", "speed_converted_ms", "speed_ratio"]].tolist() == [
        *(64, 8.0, 5.0, 1.6)
    ]
    assert frame.loc["dense", ["speed_batch", "speed_ratio"]].isna().all()


@pytest.mark.parametrize(
    "broken", [{"rows": 3}, {"rows": [{"dense_ms": 1.0}]}, {"rows": [{"batch": 1, "ratio": "fast"}]}]
)
def test_a_broken_section_is_told(results: Any, broken: dict[str, Any]) -> None:
    results.add(speed=speed() | broken)
    loaded = load(results.folder)
    assert [one.path for one in loaded.problems], "the page says what was left out of this record"


def test_each_batch_is_judged_by_itself(results: Any) -> None:
    # slower at batch 1, faster at 64: an average over both would say neither
    for seed, by in enumerate((1.0, 1.01, 0.99)):
        results.twin(seed)
        results.add(seed=seed, speed=speed((1, 2.0, 3.0 * by), (64, 9.0, 6.0 * by)))
    one, large = verdicts(results)
    assert (one.text, one.outcome) == ("2:4 is faster than dense at batch 1.", "fail")
    assert (large.text, large.outcome) == ("2:4 is faster than dense at batch 64.", "pass")
    assert large.figures.startswith("dense over converted time 1.5")
    assert "bfloat16 on Example GPU" in large.figures


def by_column(table: Any) -> list[dict[str, str]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in shown(table)]


def test_the_table_has_each_batch_with_its_sparse_layers(results: Any, table: Any) -> None:
    layers = [{"batch": 64, "winner": name} for name in ("triton", "dense", "cusparselt")]
    for seed, by in enumerate((1.0, 4.0)):
        results.add(seed=seed, speed=speed((1, 2.0, 4.0), (64, 8.0 * by, 4.0), layers=layers, type="cuda"))
    one, large = by_column(table(section))
    assert (one["batch"], one["dense"], one["converted"], one["ratio"]) == ("1", "2", "4", "0.500 (2 seeds)")
    # the geometric mean of 2 and 8
    assert (large["batch"], large["ratio"], large["layers"]) == ("64", "4.000 (2 seeds)", "2 of 3")
    assert float(large["throughput"]) == 16000
    assert any("CUDA graphs" in note for note in table(section).notes)


def test_a_cpu_has_no_converted_column(results: Any, table: Any) -> None:
    results.add(speed=speed((1, 2.0, None), device="Example | CPU", how="wall", type="cpu"))
    (row,) = by_column(table(section))
    assert "converted" not in row
    assert "ratio" not in row
    assert any("the fastest of the engines that were tried (eager)" in note for note in table(section).notes)
