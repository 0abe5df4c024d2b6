"""Which trial of a tuning matrix wins. `pytest tests/analysis/test_chosen_settings.py`"""

from pathlib import Path

import pytest
from project import script

from nmbench.analysis.rows import compare
from nmbench.records.frame import load

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chosen_settings.py"


@pytest.fixture
def told(results):
    return lambda: "\n".join(script(SCRIPT).lines(compare(load(results.folder).frame)))


def trial(results, hyper, *values, method="sr-ste"):
    for seed, value in enumerate(values, start=100):
        results.add("1:4", method, seed, value=value, cell={"hyper": hyper})


def test_the_best_mean_wins_and_is_told_as_toml(results, told):
    trial(results, {}, 80.0, 80.2)
    trial(results, {"lambda_w": 0.002}, 82.0, 82.2)
    trial(results, {"lambda_w": 0.02}, 81.0, 70.0)
    assert "-> hyper = { lambda_w = 0.002 }" in told()
    assert "within" not in told()


def test_of_equal_trials_the_default_wins_and_luck_is_called_so(results, told):
    trial(results, {"lambda_w": 0.002}, 80.0, 82.0)
    trial(results, {}, 82.0, 80.0)
    assert "-> hyper = {}   # within its spread of the second" in told()


def test_only_seeds_that_all_trials_have_count(results, told):
    trial(results, {}, 80.0, 90.0)
    trial(results, {"lambda_w": 0.002}, 81.0)
    assert "-> hyper = { lambda_w = 0.002 }" in told()
