"""The core's own tests of "never stale" and "once a step" hold where the fused passes run, here interpreted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SPARSITY = Path(__file__).parents[1] / "sparsity"
CASES = Path(__file__).with_name("core_cases.py")
SCRIPT = """
import sys
from collections import Counter
import pytest
from nmbench.sparsity.fast.triton_decay import Decay
from nmbench.sparsity.fast.triton_mask import Renewal

launches = Counter()
def counted(cls):
    run = cls.run
    def counting(self, *args):
        launches[cls.__name__] += 1
        return run(self, *args)
    cls.run = counting
counted(Decay), counted(Renewal)
status = pytest.main(sys.argv[1:])
print("launches", launches["Renewal"], launches["Decay"])
sys.exit(status)
"""
CHOSEN = (
    "there_and_back or another_ or between_two_uses or held or one_masked or tied or edit_one_element "
    "or accumulation or used_often or closure_makes or skips"
)


def run(*arguments: str) -> list[int]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "NMBENCH_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "launches"
    return [int(number) for number in last[1:]]


@pytest.mark.slow
def test_never_stale_and_once_a_step() -> None:
    renewals, terms = run(str(SPARSITY / "test_never_stale.py"), str(SPARSITY / "test_once.py"), "-k", CHOSEN)
    assert renewals > 100
    assert terms > 10


@pytest.mark.slow
def test_launches_of_a_training_step() -> None:
    """Two renewals and one term a step, whatever the number of layers: this is what the documentation promises."""
    renewals, terms = run(str(CASES), "-k", "steps")
    assert terms == 3
    assert renewals == 1 + 1 + 2 * 3  # when it is made: the masks, and the first snapshot


@pytest.mark.slow
def test_a_compiled_graph_has_one_masked_pass_a_weight() -> None:
    """For each rule, axis and compiler."""
    renewals, terms = run(str(CASES), "-k", "graph")
    assert renewals > 8 * 6
    assert terms == 8 * 2 * 3
