"""The package that `new-task` and `new-method` write: it installs, tests itself, runs, and its records say whose it is.

The verbs around it are in the tutorial and the page of own methods, whose blocks tests/docs runs.
"""

import json
import os
import subprocess
import sys

import pytest

from nmbench._util.errors import UsageError
from nmbench.scaffold import write


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["task", "method"])
def test_what_is_written_installs_tests_itself_and_runs(tmp_path, kind, nmbench):
    folder, site = write(kind, "my-own", tmp_path), str(tmp_path / "site")
    for command in (
        ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, str(folder)],
        ["pytest", "-q", "-p", "no:cacheprovider"],
    ):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": site}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    done = nmbench("run", "matrix.toml", "--device", "cpu", cwd=folder, PYTHONPATH=site)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(p.read_text()) for p in folder.glob("results/my-own/*/*/attempt-1/record.json")]
    assert [record["status"] for record in records] == ["ok"] * 3
    if kind == "task":
        assert {record["plugin"]["distribution"] for record in records} == {"nmbench-my-own"}
        dense = next(record for record in records if record["cell"]["pattern"] == "dense")
        assert dense["metrics"]["accuracy"] > 60  # it learns: chance is 25


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
