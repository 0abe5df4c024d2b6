"""Options of an engine: where they come from, and what is none."""

import sys

import pytest

from nmbench._util.errors import UsageError
from nmbench.engines import engine, options


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    file = tmp_path / "engines.toml"
    monkeypatch.setattr(options, "user_file", lambda: file)
    return file


def test_what_is_typed_wins_over_the_matrix_and_that_over_the_users_file(own):
    own.write_text('[slurm]\npartition = "a"\naccount = "mine"\nqos = "low"\nexclusive = true\n[ray]\naddress = "x"\n')
    matrix = {"slurm": {"partition": "b", "time": 90, "exclusive": False}}
    typed = ["partition=c", "--constraint=a100", "no-requeue", "cpus_per_task=4", "comment=a=b"]
    assert options.merged("slurm", matrix, typed) == {
        "partition": "c", "account": "mine", "qos": "low", "time": "90", "constraint": "a100", "no-requeue": "",
        "cpus-per-task": "4", "comment": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["[slurm", "slurm = 3", "[slurm]\npartition = [1]", "[slrum]\npartition = 'a'"])
def test_a_users_file_that_is_broken_is_named(own, text):
    own.write_text(text)
    with pytest.raises(UsageError, match=r"engines.toml|option partition"):
        options.merged("slurm", {}, [])


def test_a_matrix_with_options_of_no_engine_is_told():
    with pytest.raises(UsageError, match="did you mean 'slurm'"):
        options.merged("slurm", {"slrum": {"partition": "a"}}, [])


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'nmbench\[ray\]'"):
        engine("ray", {})


def test_an_unknown_engine_is_told_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'slurm'"):
        engine("slurn", {})
