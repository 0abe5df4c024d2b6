"""benchmarks/gpu.py where there is no GPU: how it runs its steps, and what it says."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from project import gone, script

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> Any:
    return script(SCRIPT)


def run(gpu: Any, out: Path, code: str, limit: float = 60.0, left: float = 100.0, **more: Any) -> Any:
    step = gpu.Step("step", ["-c", code], limit, **more)
    return gpu.run(step, out, left, Path("/nowhere"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible here, so it would run")
def test_without_a_gpu_it_says_so_on_one_line() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "make gpu: no GPU is visible; nothing ran\n"


def test_a_step_that_hangs_ends_with_all_that_it_started(gpu: Any, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']);"
        "print('{\"child\": %d}' % child.pid, flush=True); time.sleep(99)"
    )
    told = run(gpu, tmp_path, code, limit=3.0)
    assert (told["status"], told["reason"]) == ("timeout", "it took more than 3 s")
    pid = told["result"]["child"]  # what it printed before counts
    assert gone(pid)


def test_a_checkout_is_found_without_an_installation(gpu: Any) -> None:
    with gpu.importable() as folder:
        (found,) = importlib.metadata.distributions(path=[str(folder)])
        groups = {point.group: set() for point in found.entry_points}
        for point in found.entry_points:
            groups[point.group].add(point.name)
        assert {"cusparselt", "cutlass", "triton", "dense"} <= groups["nmbench.kernels"]
        assert "sr-ste" in groups["nmbench.methods"]
        assert (folder / "nmbench_tasks" / "classification" / "task.py").is_file()
        code = "import nmbench_tasks.classification, sys; print(nmbench_tasks.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(str(folder))
    assert not folder.exists()


def test_all_steps_in_one_summary(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"batch": 1, "dense_ms": 2.0, "converted_ms": None, "ratio": None}
    speed = {"rows": [row], "dtype": "bfloat16", "how": "cuda-events"}
    steps = [
        gpu.Step("convert-toy", ["-c", f"import json; print(json.dumps({speed!r}))"], 60),
        gpu.Step("bad", ["-c", "raise SystemExit('a | b')"], 60),
        gpu.Step("absent", [], 60, ("no_such_module",)),
    ]
    monkeypatch.setattr(gpu, "steps", lambda out: steps)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Example GPU 1")
    assert gpu.everything(5.0, tmp_path, None) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [step["status"] for step in summary["steps"]] == ["ok", "failed", "skipped"]
    text = (tmp_path / "README.md").read_text()
    assert "# GPU run on Example GPU 1" in text
    assert "| toy | bfloat16 | 1 | 2 | - | - | cuda-events |" in text
    assert "exit status 1: a / b" in text
    assert gpu.everything(5.0, tmp_path, ["absent"]) == 0
