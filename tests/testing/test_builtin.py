"""The built-in methods and pruners pass the battery; `make check-all` has the built-in tasks."""

import pytest

from nmbench.sparsity import methods, pruning
from nmbench.testing import check_method, check_pruner


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
