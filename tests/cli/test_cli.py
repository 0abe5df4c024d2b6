"""The command line: fast, exact about what is wrong, and importing no torch before it has to."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "matplotlib", "scipy", "nmbench_tasks", "numpy")


@pytest.mark.parametrize(
    ("arguments", "printed", "heavy"),
    [
        (["--version"], "nmbench 0", HEAVY),
        (["run", "--help"], "Usage", HEAVY),
        (["plan", "quick"], "0 done", ("torch", "nmbench_tasks")),
    ],
)
def test_nothing_heavy_is_imported_before_it_has_to_be(tmp_path, arguments, printed, heavy):
    code = (
        "import sys; sys.argv = ['nmbench', *sys.argv[1:]]\n"
        "import atexit\n"
        f"atexit.register(lambda: print('heavy:', [m for m in {heavy!r} if m in sys.modules]))\n"
        "from nmbench.cli import main; main()"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert printed in done.stdout, done.stderr
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
def test_wrong_usage_is_one_line_and_status_2(arguments, message, tmp_path, nmbench):
    done = nmbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_level_that_is_none_is_named(nmbench):
    done = nmbench("list", NMBENCH_LOG="debugg")
    assert done.returncode == 2
    assert done.stderr.strip() == "nmbench: NMBENCH_LOG=debugg: no such level; did you mean 'debug'?"


def test_seeds_replace_those_of_the_matrix(tmp_path, nmbench):
    out = nmbench("plan", "quick", "--seeds", "3,5-6", cwd=tmp_path).stdout
    assert {line.rpartition(" ")[2] for line in out.splitlines()[:-1]} == {"3", "5", "6"}


def test_list_shows_square_brackets_as_they_are(tmp_path, nmbench):
    text = "from nmbench.task import Metric, Task\n\n\nclass Needy(Task):\n    name = 'needy'\n"
    text += "    metrics = (Metric('a'),)\n    models = ('m',)\n    scales = {'smoke': {}}\n"
    text += "    requires = ('no-such-thing',)\n    install = \"pip install 'x[y]'\"\n"
    (tmp_path / "needy.py").write_text(text)
    assert "'x[y]'" in nmbench("list", "--plugins", str(tmp_path), cwd=tmp_path).stdout
