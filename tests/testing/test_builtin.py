"""The built-in methods, a toy task and classification pass the battery; `make check-all` has the other tasks too."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmbench.plan.describe import load_task
from nmbench.sparsity import methods
from nmbench.testing import check_method, check_task

TOY = Path(__file__).parent.parent / "plugins" / "toy.py"


@pytest.mark.parametrize("name", methods.names())
def test_every_method(name):
    battery = check_method(methods.load(name))
    battery.raise_for_failures()
    assert battery.count("skipped") == 0


@pytest.mark.slow
@pytest.mark.parametrize("reference", [f"path:{TOY}", "nmbench_tasks.classification:Classification"])
def test_tasks(reference, tmp_path):
    battery = check_task(load_task(reference), folder=tmp_path)
    battery.raise_for_failures()
    assert battery.ran >= 20
