"""A stranger's first quarter of an hour: new-task, install, check, pytest, run, report; and the same for a method."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmbench._util.errors import UsageError
from nmbench.scaffold import write


def call(folder: Path, *command: str, expect: int = 0, **variables: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def install(folder: Path, site: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    call(folder, *pip, str(folder))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cells"), [("task", 3), ("method", 3)])
def test_from_nothing_to_a_report(tmp_path, kind, cells, nmbench):
    def said(*arguments: str, **variables: str) -> str:
        done = nmbench(*arguments, cwd=folder if folder.exists() else tmp_path, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    folder = tmp_path / "nmbench-my-own"
    said(f"new-{kind}", "my-own")
    site = tmp_path / "site"
    install(folder, site)
    path = {"PYTHONPATH": str(site)}
    assert "nmbench-my-own" in said("list", COLUMNS="200", **path)
    call(folder, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", **path)
    said("run", "matrix.toml", "--device", "cpu", **path)
    records = [json.loads(p.read_text()) for p in folder.glob("results/my-own/*/*/attempt-1/record.json")]
    assert [record["status"] for record in records] == ["ok"] * cells
    if kind == "task":
        assert {record["plugin"]["distribution"] for record in records} == {"nmbench-my-own"}
        dense = next(record for record in records if record["cell"]["pattern"] == "dense")
        assert dense["metrics"]["accuracy"] > 60  # it learns: chance is 25
    said("report", "matrix.toml", **path)
    assert "2:4" in (folder / "reports" / "my-own" / "README.md").read_text()


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "a--b", "-a", "9a", "a b", "../a", "torch", "class"])
def test_names_that_are_none_write_nothing(tmp_path, name):
    with pytest.raises(UsageError):
        write("task", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path):
    kept = write("method", "mine", tmp_path) / "nmbench_mine.py"
    kept.write_text("changed")
    with pytest.raises(UsageError, match="is there already"):
        write("method", "mine", tmp_path)
    assert kept.read_text() == "changed"
