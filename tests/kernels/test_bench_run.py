"""A whole run on the CPU with toy backends: record, page and figure, and what ends a run early."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_toys import TOYS

from nmbench._util.errors import UsageError
from nmbench.kernels.bench import run as module
from nmbench.kernels.bench.figure import lines
from nmbench.kernels.bench.options import Options
from nmbench.kernels.bench.page import brief, page
from nmbench.kernels.bench.record import write
from nmbench.kernels.bench.run import available, run
from nmbench.kernels.bench.summary import geometric_mean, refusals, summary, targets
from nmbench.sparsity import NMPattern

CPU = torch.device("cpu")
PATTERNS = (NMPattern(2, 4), NMPattern(1, 16))
TINY = Options(suites=("tiny",), patterns=PATTERNS, dtypes=("fp32",), rows=(1, 4), cell_s=0.0)


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return run(TINY, CPU, TOYS, {"absent": "no such library"})


def test_everything_planned_is_there(record: dict[str, Any]) -> None:
    assert record["planned"] == len(record["cells"]) == 4
    assert record["device"]["type"] == "cpu"
    assert record["roofline"]["floor_us"] > 0
    assert record["targets"] == [], "a CPU that meets a GPU's target would say nothing"


def test_what_is_written(record: dict[str, Any], tmp_path: Path) -> None:
    assert write(record, tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "break-even.png", "break-even.svg", "record.json"]  # fmt: skip
    kept = json.loads((tmp_path / "record.json").read_text())
    assert kept["cells"] == record["cells"]
    text = (tmp_path / "README.md").read_text()
    assert "On a CPU with" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "| absent | - | no such library | - |" in rows
    assert "| plain | fp32 | no 1:16 here | 4 |" in rows
    assert "wrong: relative error" in text


def test_the_budget_ends_a_run_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(float(n) for n in range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    record = run(replace(TINY, budget_s=4.0), CPU, TOYS)
    assert 0 < len(record["cells"]) < record["planned"]
    assert f"**{len(record['cells'])} of 4 cells were reached**" in page(record)


def test_an_interrupt_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    real, saved = module.measure, []

    def second_stops(*args: Any) -> Any:
        if saved_cells:
            raise KeyboardInterrupt
        saved_cells.append(1)
        return real(*args)

    saved_cells: list[int] = []
    monkeypatch.setattr(module, "measure", second_stops)
    with pytest.raises(KeyboardInterrupt):
        run(TINY, CPU, TOYS, save=lambda record: saved.append(len(record["cells"])))
    assert saved[-1] == 1


def test_a_device_that_failed_is_not_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_broken", lambda device: "AcceleratorError: an illegal memory access")
    record = run(TINY, CPU, TOYS)
    assert len(record["cells"]) == 1
    assert "illegal memory access" in page(record)


def test_backends_come_from_the_registry() -> None:
    usable, refused = available()
    assert {"cusparselt", "cutlass", "triton"} <= set(usable) | set(refused)
    assert "dense" not in usable
    assert set(available(("dense",))[0]) == {"dense"}
    with pytest.raises(UsageError, match="did you mean 'triton'"):
        available(("tritn",))


# -- figures out of made-up cells -----------------------------------------------------------------------------------
def cell(rows: int, ratio: float, size: int = 4096, pattern: str = "2:4", **more: Any) -> dict[str, Any]:
    case = {"suite": "llm", "kind": "linear", "shape": f"{size} -> {size}", "weight": [size, size], "rows": rows}
    sparse = {"pattern": pattern, "backend": "plain", "us": 10.0 / ratio, "ratio": ratio, "share_bound": 0.8}
    chosen = {"pattern": pattern, "backend": "plain", "ratio": max(1.0, ratio), "measured_again": True}
    return {"case": case | {"layer": "", "calls": 1}, "dtype": "bf16", "dense": [], "sparse": [sparse],
            "chosen": [chosen]} | more  # fmt: skip


def test_geometric_means_by_rows() -> None:
    assert geometric_mean([]) is None
    found = summary([cell(4096, 2.0), cell(8192, 0.5), cell(1, 3.0)])
    assert [(row["rows"], row["cases"], round(row["ratio"], 6)) for row in found] == [
        ([1, 16], 1, 3.0),
        ([4096, None], 2, 1.0),
    ]
    assert (found[1]["least"], found[1]["most"], found[1]["chosen"]) == (0.5, 2.0, pytest.approx(2**0.5))


def test_targets_are_figures_or_not_measured(record: dict[str, Any]) -> None:
    nothing = targets([])
    assert page(record | {"targets": nothing}).count("not measured") >= 3
    assert "not measured" in brief(record | {"targets": nothing})
    assert [(one["figure"], one["met"], one["cases"]) for one in nothing] == [(None, None, 0)] * 3
    speed, bound, kept = targets([cell(4096, 2.0), cell(4096, 1.2), cell(1, 0.9), cell(4096, 9.0, size=512)])
    assert speed["figure"] == pytest.approx((2.0 * 1.2) ** 0.5)
    assert speed["met"] is True
    assert (bound["figure"], bound["met"], bound["cases"]) == (0.8, True, 1)
    assert (kept["figure"], kept["met"]) == (1.0, True)
    assert targets([cell(4096, 1.2)])[0]["met"] is False
    assert targets([cell(4096, 1.2, pattern="1:4")])[0]["met"] is None
    assert targets([cell(4096, 1.2, dtype="int8")])[0]["met"] is None, "int8 has no target"


def test_a_line_is_over_the_shapes_that_have_all_its_rows() -> None:
    cells = [cell(1, 1.0), cell(16, 4.0), cell(1, 100.0, size=8192), cell(1, 4.0, size=512), cell(16, 1.0, size=512)]
    ((line, shapes),) = lines(cells)["bf16"].values()
    assert (line, shapes) == ({1: pytest.approx(2.0), 16: pytest.approx(2.0)}, 2)


def test_refusals_are_counted() -> None:
    refused = {"pattern": "2:4", "backend": "b", "refused": "too small"}
    found = refusals([cell(1, 1.0, sparse=[refused, refused]), cell(1, 1.0, error="out of memory")])
    assert found == [("b", "bf16", "too small", 2), ("(all)", "bf16", "out of memory", 1)]
