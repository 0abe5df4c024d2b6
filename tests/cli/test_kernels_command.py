"""`nmbench kernels` as a person types it, where there is no GPU."""

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nmbench._util.errors import UsageError
from nmbench.cli import app
from nmbench.kernels.backends.dense import Dense
from nmbench.kernels.registry import Found

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


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    done = invoke(*TINY, "--backends", "dense", "--check", "--json", "--out", str(tmp_path))
    assert json.loads(done.stdout)["options"]["check_only"] is True
    assert (tmp_path / "record.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "1,many"], "'many' is no number"),
        (["--suite", "lm"], "did you mean 'llm'"),
        (["--device", "tpu"], "use cuda or cpu"),
        (["--backends", "cutlas"], "did you mean 'cutlass'"),
        (["--list", "--rows", "²"], "'²' is no number"),
        (["--list", "--rows", ""], "--rows names nothing"),
        (["--list", "--dtypes", " , "], "--dtypes names nothing"),
        (["--list", "--budget", "nan"], "--budget nan: give minutes"),
    ],
)
def test_what_does_not_exist_is_named(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["kernels", *arguments])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_an_output_that_cannot_be_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, [*TINY, "--out", str(tmp_path / "file" / "out")])
    assert isinstance(done.exception, UsageError)
    assert "no folder can be there" in str(done.exception)


def test_what_was_measured_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--check"], [], ["--check"]):
        invoke(*TINY, "--backends", "dense", *more)
    kept = sorted(path.parent.name for path in tmp_path.rglob("record.json"))
    first = kept[0]
    assert kept == [first, f"{first}-2", f"{first}-check", f"{first}-check-2"]
    for name in kept:
        record = json.loads((tmp_path / "results" / "kernels" / name / "record.json").read_text())
        assert record["options"]["check_only"] is ("check" in name)


class Wrong(Dense):
    name = "wrong"

    def linear(self, x, packed, bias, problem):
        return 1.5 * super().linear(x, packed, bias, problem)


class Raising(Dense):
    name = "raising"

    def refusal(self, problem):
        raise KeyError("boom")


def test_a_check_that_finds_a_fault_fails_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {one.name: Found(one.name, one) for one in (Dense(), Wrong(), Raising())}
    own["broken"] = Found("broken", None, "ImportError: no")
    monkeypatch.setattr("nmbench.kernels.registry.backends", lambda: own)

    def check(names: str, expect: int) -> str:
        out = str(tmp_path / names)
        return invoke(*TINY, "--check", "--backends", names, "--out", out, expect=expect).stdout

    assert "wrong, fp32: wrong: relative error 0.5" in check("wrong", 1)
    assert "raising, fp32: its refusal() raised KeyError: 'boom'" in check("raising", 1)
    both = check("dense,broken", 1)
    assert "| dense |" in " ".join(both.split())
    assert "- broken cannot be used: ImportError: no" in both
    check("dense", 0)


def test_the_doctor_tells_of_backends_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"broken": Found("broken", None, "ImportError: no", "some-package 1.0")}
    monkeypatch.setattr("nmbench.kernels.registry.backends", lambda: own)
    assert "kernel backend broken (some-package 1.0): ImportError: no" in invoke("doctor").output


def test_the_doctor_lives_without_a_working_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nmbench.kernels.registry", None)
    assert "unusable    kernels: ModuleNotFoundError" in invoke("doctor").output
