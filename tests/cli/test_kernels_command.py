"""`nmbench kernels` as a person types it, where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nmbench.cli import app
from nmbench.errors import UsageError

TINY = ["kernels", "--device", "cpu", "--suite", "tiny", "--rows", "2", "--dtypes", "fp32", "--patterns", "2:4"]


def invoke(*arguments: str, expect: int = 0):
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == expect, done.output
    return done


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible here, so it would run")
def test_without_a_gpu_nothing_runs_and_that_is_said(tmp_path: Path) -> None:
    done = invoke("kernels", "--out", str(tmp_path / "out"), expect=2)
    assert done.stderr.count("\n") == 1
    assert "no GPU is visible, so nothing ran" in done.stderr
    assert not (tmp_path / "out").exists()


def test_list_says_what_would_run() -> None:
    lines = invoke("kernels", "--list", "--suite", "llm", "--rows", "1,16", "--dtypes", "bf16").output.splitlines()
    assert lines[0].split()[:5] == ["llm", "8", "shapes", "16", "cells"]
    assert any(line.startswith("backends") and "triton" in line for line in lines)


def test_a_cpu_runs_it_when_asked(tmp_path: Path) -> None:
    done = invoke(*TINY, "--backends", "dense", "--out", str(tmp_path))
    assert "a CPU: this says nothing of a GPU" in done.stdout
    assert (tmp_path / "record.json").is_file()


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    done = invoke(*TINY, "--backends", "dense", "--check", "--json", "--out", str(tmp_path))
    assert json.loads(done.stdout)["options"]["check_only"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "1,many"], "'many' is no number"),
        (["--suite", "lm"], "did you mean 'llm'"),
        (["--device", "tpu"], "use cuda or cpu"),
        (["--backends", "cutlas"], "did you mean 'cutlass'"),
    ],
)
def test_what_does_not_exist_is_named(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["kernels", *arguments])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
