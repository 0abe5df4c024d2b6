"""Processes that are forks of this one, which has imported torch already: a command and its workers begin in a moment.

Command    `nmbench ...` in a folder of its own, as a process group that can be killed, its workers forked too
Fault      what is to go wrong inside one of them, at a system call
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).parent / "plugin"
CALLS: dict[str, tuple[Any, str]] = {
    "rename": (os, "replace"),
    "fsync": (os, "fsync"),
    "mkdir": (os, "mkdir"),
    "open": (io, "open"),
    "flock": (fcntl, "flock"),
}


@dataclass(frozen=True)
class Fault:
    """The `number`-th call of that name in the parent or a worker: error is an errno; 0 kills the process there."""

    role: str
    call: str
    number: int
    error: int

    def arm(self, role: str) -> None:
        """Count from now on, in the process that plays `role`."""
        if role != self.role:
            return
        module, name = CALLS[self.call]
        real, left = getattr(module, name), [self.number]

        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not self.error:
                os.kill(os.getpid(), signal.SIGKILL)
            if left[0] == 0:
                raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **options)

        setattr(module, name, call)


class Forked:
    """Stands for subprocess.Popen: `run` in a child with its own session, output to a file."""

    def __init__(self, run: Callable[[], object], folder: Path, log: int, environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(run, folder, log, environment)

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("forked", timeout or 0)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


def _become(run: Callable[[], object], folder: Path, log: int, environment: dict[str, str]) -> None:
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.alarm(0)
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 200)  # of the one that forked: its lock too
        os.environ.update(environment)
        # the objects before them are not closed: these numbers would go with them
        sys.stdout = open(1, "w", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
        run()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Popen:
    """What nmbench.running.local sees as the module subprocess: workers are forked, anything else is as ever."""

    def __init__(self, fault: Fault | None) -> None:
        self.DEVNULL, self.STDOUT, self.TimeoutExpired = (
            subprocess.DEVNULL,
            subprocess.STDOUT,
            subprocess.TimeoutExpired,
        )
        self._fault = fault

    def Popen(self, command: Sequence[str], **options: Any) -> Forked:
        def run() -> None:
            from nmbench.worker.__main__ import main

            if self._fault is not None:
                self._fault.arm("worker")
            sys.exit(main(list(command[3:])))

        return Forked(run, Path.cwd(), options["stdout"].fileno(), options["env"])


class Command(Forked):
    """`nmbench ...` in `folder`; what it prints goes to out.log there."""

    def __init__(self, folder: Path, *arguments: str, fault: Fault | None = None) -> None:
        self.folder = folder

        def run() -> None:
            from nmbench import cli
            from nmbench.running import local

            local.subprocess = _Popen(fault)  # type: ignore[assignment]
            sys.argv = ["nmbench", *arguments]
            if fault is not None:
                fault.arm("parent")
            cli.main()

        log = os.open(folder / "out.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            super().__init__(run, folder, log, {"COLUMNS": "300"})
        finally:
            os.close(log)

    @property
    def said(self) -> str:
        """All that was printed in its folder."""
        return (self.folder / "out.log").read_text(errors="replace")

    def others(self) -> list[int]:
        """Living processes of this run besides the command: those that work in its folder."""
        return [pid for pid in living(self.folder) if pid != self.pid]


def living(folder: Path) -> list[int]:
    """Ids of the processes whose working folder is `folder`."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[0]
                if os.readlink(f"{entry.path}/cwd") == str(folder) and state not in "ZX":
                    found.append(int(entry.name))
    return found


def warm_up() -> None:
    """Import what the forks need. The process must train nothing itself: threads do not survive a fork."""
    import torch

    import nmbench.cli
    import nmbench.running.scheduler
    import nmbench.sparsity.methods
    import nmbench.worker.cell  # noqa: F401
    from nmbench.plan import catalogue

    torch.set_num_threads(1)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # with which torch imports its compiler
    known = catalogue.catalogue(PLUGINS)
    catalogue.catalogue = lambda plugins=None: known
