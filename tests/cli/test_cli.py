"""The command line: fast, exact about what is wrong, and importing no torch before it has to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def nmbench(*arguments, cwd=None):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nmbench", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


HEAVY = ("torch", "pandas", "matplotlib", "scipy", "nmbench_tasks", "numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["report", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv = ['nmbench', *sys.argv[1:]]\n"
        "import atexit\n"
        f"atexit.register(lambda: print('heavy:', [m for m in {HEAVY!r} if m in sys.modules]))\n"
        "from nmbench.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert "Usage" in done.stdout
    assert "heavy: []" in done.stdout


def test_planning_imports_no_torch_and_no_task(tmp_path):
    code = (
        "import sys; sys.argv = ['nmbench', 'plan', 'quick']\n"
        "import atexit\n"
        "atexit.register(lambda: print('heavy:', [m for m in ('torch', 'nmbench_tasks') if m in sys.modules]))\n"
        "from nmbench.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "0 done" in done.stdout, done.stderr
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "no matrix 'quik'; did you mean 'quick'?"),
        (["run", "quick", "--only", "nothing"], "--only 'nothing' fits no cell"),
        (["run", "quick", "--seeds", "3-1"], "write 0,1,2 or 0-5"),
        (["run", "quick", "--seeds", "²"], "write 0,1,2 or 0-5"),
        (["run", "quick", "--device", "tpu"], "use auto, cpu or cuda"),
        (["run", "quick", "--rerun", "cras"], "no such kind; did you mean 'crash'?"),
        (["report", "nowhere"], "no results of 'nowhere'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, tmp_path):
    done = nmbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in nmbench("--debug", "run", "quik", cwd=tmp_path).stderr


def test_a_level_that_is_none_is_named(tmp_path):
    env = {**os.environ, "NMBENCH_LOG": "debugg"}
    done = subprocess.run([sys.executable, "-m", "nmbench", "list"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == "nmbench: NMBENCH_LOG=debugg: no such level; did you mean 'debug'?"


def test_seeds_replace_those_of_the_matrix(tmp_path):
    out = nmbench("plan", "quick", "--seeds", "3,5-6", cwd=tmp_path).stdout
    assert {line.rpartition(" ")[2] for line in out.splitlines()[:-1]} == {"3", "5", "6"}


def test_version():
    import nmbench as package

    assert nmbench("--version").stdout.strip() == f"nmbench {package.__version__}"


def test_list_shows_square_brackets_as_they_are(tmp_path):
    text = "from nmbench.task import Metric, Task\n\n\nclass Needy(Task):\n    name = 'needy'\n"
    text += "    metrics = (Metric('a'),)\n    models = ('m',)\n    scales = {'smoke': {}}\n"
    text += "    requires = ('no-such-thing',)\n    install = \"pip install 'x[y]'\"\n"
    (tmp_path / "needy.py").write_text(text)
    assert "'x[y]'" in nmbench("list", "--plugins", str(tmp_path), cwd=tmp_path).stdout
