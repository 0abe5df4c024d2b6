"""Ends what a killed `nmbench run` leaves behind. A signal at the parent's death reaches the workers, but not what they
started (loaders, ranks, compilers): a small process of its own waits for that death, and ends their groups.
"""

import contextlib
import subprocess
import sys

#: reads "+group" and "-group" until the pipe is closed, which the system does for a parent that is killed
_PROGRAM = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Guard:
    """Knows the process groups that are to end with this process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def add(self, group: int) -> None:
        """It is to end."""
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """It has ended."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """There are no more."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # somebody ended it; the run goes on without
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
