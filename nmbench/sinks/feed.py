"""The parent's side of the sinks: one process a sink, fed with paths of records. Nothing here waits, but `close`.

Feed       one sink's process
Feeds      all of a run; warns once for each that fails
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nmbench._util.errors import UsageError, nearest
from nmbench.sinks.base import names

__all__ = ["PATIENCE", "Feed", "Feeds"]

#: seconds that a sink may take at the end, after the last cell
PATIENCE = 300.0


class Feed:
    """One sink's process. A sink that hangs, dies or prints can do nothing to this one."""

    def __init__(self, name: str, folder: Path, matrix: str) -> None:
        self.name = name
        self.folder = folder
        self._waiting = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nmbench.sinks", name, str(folder.absolute()), matrix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # a session of its own: Ctrl-C ends the run, and the sink still gets the last records
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def send(self, record: Path) -> None:
        """Hand over one record, now or as soon as the pipe takes it."""
        self._waiting += f"{record.absolute()}\n".encode()
        self._flush()

    def _flush(self) -> None:
        assert self._process.stdin is not None
        with suppress(BlockingIOError, BrokenPipeError):
            while self._waiting:
                self._waiting = self._waiting[os.write(self._process.stdin.fileno(), self._waiting) :]

    def failure(self) -> str | None:
        """Why the sink has ended, if it has; else None."""
        return None if self._process.poll() is None else str(self._outcome().get("error", "it ended early"))

    def close(self, patience: float = PATIENCE) -> dict[str, Any]:
        """No more records: {"written": attempts}, with "error" if it failed or took longer than `patience` seconds."""
        assert self._process.stdin is not None
        until = time.monotonic() + patience
        try:
            while self._waiting and self._process.poll() is None and time.monotonic() < until:
                self._flush()
                time.sleep(0.02)
            with suppress(OSError):
                self._process.stdin.close()
            self._process.wait(max(0.0, until - time.monotonic()))
            return self._outcome()
        except subprocess.TimeoutExpired:
            return {"written": 0, "error": f"it did not end within {patience:g} s"}
        finally:
            self._kill()

    def _outcome(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            told: dict[str, Any] = json.loads(self._process.stdout.read())
            return told
        except ValueError:
            return {"written": 0, "error": f"its process ended with status {self._process.returncode}"}

    def _kill(self) -> None:
        """The process, and what a library may have started beside it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class Feeds:
    """The sinks of one run. `warn` gets one line for each that fails; the others, and the run, go on.

    Raises UsageError for a name that no installed package has.
    """

    def __init__(self, wanted: Sequence[str], folder: Path, matrix: str, warn: Callable[[str], None]) -> None:
        known = names()
        for name in wanted:
            if name not in known:
                raise UsageError(f"--sink {name!r}: there is no such sink{nearest(name, known)}")
        self.failed = False
        self._warn = warn
        self._feeds: list[Feed] = []
        for name in dict.fromkeys(wanted):
            try:
                self._feeds.append(Feed(name, folder / name, matrix))
            except OSError as error:
                self._drop(name, str(error))

    def send(self, record: Path) -> None:
        """Hand a record to every sink that still works."""
        self.check()
        for feed in self._feeds:
            feed.send(record)

    def check(self) -> None:
        """Drop the sinks that have ended by themselves, with a warning."""
        for feed in list(self._feeds):
            if (reason := feed.failure()) is not None:
                self._feeds.remove(feed)
                feed.close(0)
                self._drop(feed.name, reason)

    def close(self, patience: float = PATIENCE) -> dict[str, int]:
        """Wait until all has been written; the attempts that each sink took."""
        written: dict[str, int] = {}
        while self._feeds:
            feed = self._feeds[0]
            outcome = feed.close(patience)
            self._feeds.remove(feed)
            written[feed.name] = outcome.get("written", 0)
            if "error" in outcome:
                self._drop(feed.name, outcome["error"])
        return written

    def _drop(self, name: str, reason: str) -> None:
        self.failed = True
        self._warn(f"sink {name} gave up, everything else goes on: {reason}")
