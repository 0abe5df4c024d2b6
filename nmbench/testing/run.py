"""The whole battery of one plugin."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench.contract.task import Task
from nmbench.testing.battery import Battery, Outcome, run
from nmbench.testing.bench import Bench

if TYPE_CHECKING:
    from nmbench.kernels import Backend
    from nmbench.sparsity import Method
    from nmbench.sparsity.pruning import Pruner


def check_task(
    task: Task,
    told: Callable[[Outcome], None] = lambda outcome: None,
    folder: Path | None = None,
    in_process: bool = False,
) -> Battery:
    """Make every check of `task` at its smoke scale, on the CPU; `told` hears of each as it ends.

    Data and resume state go to `folder`, a temporary one if None. Failures that the task expects
    (`Task.expected_failures`) are counted apart. `in_process`: without the checks that need a process of their own.
    """
    import torch

    from nmbench.testing.isolation import ISOLATION_CHECKS
    from nmbench.testing.task_checks import TASK_CHECKS

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with tempfile.TemporaryDirectory(prefix="nmbench-check-") as scratch:
            bench = Bench(task, folder or Path(scratch), in_process=in_process)
            checks = TASK_CHECKS if in_process else (*TASK_CHECKS, *ISOLATION_CHECKS)
            return run(task.name, checks, bench, task.expected_failures, told)
    finally:
        torch.set_num_threads(threads)


def check_method(method: type[Method], told: Callable[[Outcome], None] = lambda outcome: None) -> Battery:
    """Make every check of `method`, installed or not, on the CPU; it takes seconds."""
    from nmbench.testing.method_checks import METHOD_CHECKS, MethodBench

    return run(getattr(method, "name", str(method)), METHOD_CHECKS, MethodBench(method), {}, told)


def check_pruner(pruner: type[Pruner], told: Callable[[Outcome], None] = lambda outcome: None) -> Battery:
    """Make every check of `pruner`, installed or not, on the CPU."""
    from nmbench.testing.pruner_checks import PRUNER_CHECKS

    return run(getattr(pruner, "name", str(pruner)), PRUNER_CHECKS, pruner, {}, told)


def check_backend(backend: Backend, told: Callable[[Outcome], None] = lambda outcome: None) -> Battery:
    """Make every check of `backend`, installed or not, on a GPU where there is one that it runs on, else on the CPU."""
    from nmbench.testing.backend_checks import BACKEND_CHECKS, BackendBench

    return run(getattr(backend, "name", str(backend)), BACKEND_CHECKS, BackendBench(backend), {}, told)
