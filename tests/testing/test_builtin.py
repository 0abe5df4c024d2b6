"""The built-in methods and a toy task pass the battery; `make check-all` has the built-in tasks."""

from pathlib import Path

import pytest

from nmbench.plan.describe import load_task
from nmbench.sparsity import methods, pruning
from nmbench.testing import check_method, check_pruner, check_task

TOY = Path(__file__).parent.parent / "plugins" / "toy.py"


@pytest.mark.parametrize("name", methods.names())
def test_every_method(name):
    battery = check_method(methods.load(name))
    battery.raise_for_failures()
    assert battery.count("skipped") == 0


@pytest.mark.parametrize("name", pruning.names())
def test_every_pruner(name):
    battery = check_pruner(pruning.load(name))
    battery.raise_for_failures()
    assert battery.count("skipped") == 0


@pytest.mark.slow
def test_a_task(tmp_path):
    battery = check_task(load_task(f"path:{TOY}"), folder=tmp_path)
    battery.raise_for_failures()
    assert battery.ran >= 20
