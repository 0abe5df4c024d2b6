"""Processes that are forks of this one, which has imported torch already: a command and its workers begin in a moment.

Command    `nmbench ...` in a folder of its own, as a process group that can be killed, its workers forked too (zygote)
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import zygote
from tests.zygote import Popen

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


class _Worker(Popen):
    """A worker of a command that has a fault."""

    fault: Fault

    def ready(self, module: str) -> None:
        if module == "nmbench.worker":
            self.fault.arm("worker")


class Command(Popen):
    """`nmbench ...` in `folder`; what it prints goes to out.log there."""

    def __init__(self, folder: Path, *arguments: str, fault: Fault | None = None) -> None:
        self.folder, self._fault = folder, fault
        with (folder / "out.log").open("ab") as log:
            super().__init__(
                [sys.executable, "-m", "nmbench", *arguments],
                cwd=folder,
                env={**os.environ, "COLUMNS": "300"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self, module: str) -> None:
        """Workers are forked too, with the fault that is meant for them."""
        subprocess.Popen = type("Forked", (_Worker if self._fault else Popen,), {"fault": self._fault})  # type: ignore[misc]
        if self._fault is not None:
            self._fault.arm("parent")

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
    """Import what the forks need, and describe the campaign's task once for all."""
    zygote.warm_up()
    from nmbench.plan import catalogue

    known = catalogue.catalogue(PLUGINS)
    catalogue.catalogue = lambda plugins=None: known
