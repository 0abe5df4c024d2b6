"""Does a plugin keep its promises? For `nmbench check`, and for a plugin's own pytest.

from nmbench.testing import check_backend, check_method, check_task

def test_conformance():
    check_task(MyTask()).raise_for_failures()
"""

from nmbench.testing.battery import Battery, Check, Failed, Outcome, Skip, check
from nmbench.testing.run import check_backend, check_method, check_pruner, check_task

__all__ = [
    "Battery",
    "Check",
    "Failed",
    "Outcome",
    "Skip",
    "check",
    "check_backend",
    "check_method",
    "check_pruner",
    "check_task",
]
