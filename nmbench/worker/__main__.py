"""The worker process: the only place that imports tasks.

python -m nmbench.worker --describe REFERENCE     declarations of a task, as JSON
python -m nmbench.worker --describe-methods       declarations of all methods
python -m nmbench.worker --prepare JOB            make or verify a task's data, and print its DataInfo
python -m nmbench.worker --job JOB                run one cell and write its record
python -m nmbench.worker --speed JSON             time the model that a finished cell left (nmbench.running.speed_job)
python -m nmbench.worker --rank JOB PARENT        train it as another rank of that worker (nmbench.worker.ranks)
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def _die_with_parent(parent: int) -> None:
    """A killed `nmbench run` must not leave workers behind that write into its results (Linux: PR_SET_PDEATHSIG)."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if parent and os.getppid() != parent:
        os._exit(1)


def _answer(value: Any) -> None:
    # after a separator, since a plugin may have printed something of its own
    sys.stdout.write("\x1e" + json.dumps(value))
    sys.stdout.flush()


def _on_sigterm(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit status is 0 whenever an answer or a record was written."""
    verb, *rest = arguments
    if verb == "--describe":
        from nmbench.plan.describe import describe_task

        _answer(describe_task(rest[0]))
        return 0
    if verb == "--describe-methods":
        from nmbench.plan.describe import describe_methods

        _answer({"methods": describe_methods()})
        return 0
    if verb == "--speed":
        from nmbench.worker.speed_job import answer

        speed_job = json.loads(rest[0])
        _die_with_parent(int(speed_job["parent"]))
        _answer(answer(speed_job, _answer))
        return 0
    job = json.loads(Path(rest[0]).read_text())
    _die_with_parent(int(rest[1]) if verb == "--rank" else int(job.get("parent", 0)))
    signal.signal(signal.SIGTERM, _on_sigterm)
    if verb == "--prepare":
        from nmbench.worker.cell import prepare

        _answer(prepare(job))
        return 0
    from nmbench.worker.cell import execute, execute_rank

    if verb == "--rank":
        return execute_rank(job)
    execute(job, Path(rest[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
