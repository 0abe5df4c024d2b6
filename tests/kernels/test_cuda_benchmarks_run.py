"""The CUDA benchmarks run at toy size on a CPU, so that they are not found broken on the day a GPU is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from project import script

from nmbench.sparsity import nm_mask

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOY = ["--device", "cpu", "--model", "toy", "--batch", "4", "--size", "16", "--steps", "2", "--warmup", "1"]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BENCHMARKS / name, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_training_overhead(tmp_path: Path) -> None:
    done = run("cuda_training_overhead.py", *TOY, "--modes", "eager", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr[-2000:]
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["dense"]["ratio_to_dense"] == 1
    assert all(row[name]["ms"] > 0 for name in ("dense", "nmbench", "sort-and-scatter"))


@pytest.mark.slow
def test_bandwidth(tmp_path: Path) -> None:
    small = ["--device", "cpu", "--elements", "8192", "--times", "2", "--patterns", "2:4", "1:16"]
    done = run("cuda_bandwidth.py", *small, "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["what"] for row in rows} == {"fused mask", "SR-STE term", "compress", "decompress"}
    assert len(rows) == 4 * 2 * 2


def test_sort_and_scatter_is_the_same_method() -> None:
    module = script(BENCHMARKS / "cuda_training_overhead.py")
    weight = torch.randn(6, 16, 3, 3)
    assert torch.equal(module.sorted_mask(weight, 2, 4).bool(), nm_mask(weight, "2:4"))
