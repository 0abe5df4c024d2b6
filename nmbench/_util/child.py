"""Ask a Python process of one's own for JSON: what it imports may crash, print, hang, or outlive its welcome.

An answer is a record separator, the object, a line feed (RFC 7464), so that a plugin may print what it likes around it.
"""

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_LOG = logging.getLogger(__name__)
_SEPARATOR = "\x1e"
_PARENT = "NMBENCH_PARENT"
#: bytes of output that are kept at least, the last ones; an answer is far smaller
_KEPT = 2**24
_DRAIN_S = 5.0  # for what is left in a pipe; a grandchild may hold it open for ever


@dataclass(frozen=True)
class Reply:
    """What a child answered.

    Attributes:
        answers: the objects that it printed, in that order; torn ones and other output left out.
        ending: how its process ended, for people; that it ended well says nothing about its answers.
        late: its time was up.
    """

    answers: list[dict[str, Any]]
    ending: str
    late: bool = field(default=False, compare=False)

    @property
    def answer(self) -> dict[str, Any] | None:
        """The last one, which is the whole one where a child answers step by step."""
        return self.answers[-1] if self.answers else None


def ask(
    *arguments: str, timeout: float | None = None, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Reply:
    """Run `python -m` with `arguments` until it ends, or for `timeout` seconds, and read what it answered.

    environment: on top of this process' own. Whatever the child started is ended with it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {}), _PARENT: str(os.getpid())},
        cwd=cwd,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [_Reader(process.stdout), _Reader(process.stderr)]
    late = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        _end_group(process)
    out, err = (reader.text() for reader in readers)
    last = (err.strip().splitlines() or ["it said nothing"])[-1][:200]
    ending = (
        f"it took more than {timeout:g} s" if late else f"its process ended with status {process.returncode}: {last}"
    )
    reply = Reply(_objects(out), ending, late)
    _LOG.debug("%s: %d answers, %s", " ".join(arguments)[:200], len(reply.answers), ending)
    return reply


class _Reader:
    """Reads a pipe to its end in a thread and keeps the last bytes of it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._bytes = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while piece := os.read(self._pipe.fileno(), 2**16):
                self._bytes += piece
                if len(self._bytes) > 2 * _KEPT:
                    del self._bytes[:-_KEPT]

    def text(self) -> str:
        """What was read, undecodable bytes replaced."""
        self._thread.join(_DRAIN_S)
        return bytes(self._bytes).decode(errors="replace")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the child and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _objects(text: str) -> list[dict[str, Any]]:
    found = []
    for piece in text.split(_SEPARATOR)[1:]:
        try:
            value = json.JSONDecoder().raw_decode(piece)[0]  # something else may be printed after it
        except (ValueError, RecursionError):  # torn, or no answer at all
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def answer(value: Mapping[str, Any]) -> None:
    """Print `value` as this process' answer."""
    sys.stdout.write(_SEPARATOR + json.dumps(value) + "\n")
    sys.stdout.flush()


def die_with_parent(parent: int | None = None) -> None:
    """End this process when `parent` ends (Linux: PR_SET_PDEATHSIG); by default the one that asked, if one did.

    A killed `nmbench run` must not leave processes behind that write into its results.
    """
    parent = parent or int(os.environ.pop(_PARENT, 0))
    if not parent:
        return
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)
