"""Signs of life of a cell, and how long its stages take."""

import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmbench.records.attempt import overtaken
from nmbench.running.job import OVERTAKEN, Beat

_log = logging.getLogger("nmbench.worker")
_SHORTEST = 0.5  # seconds between two heartbeats
_BEAT_S = 1.0  # between those of a stage that cannot give any itself


class Heart:
    """Called with what changed of a `Beat`. It only observes: a heartbeat that cannot be written ends no training.

    But where another attempt has taken the work folder over, the process ends at once (`end_if_overtaken`).

    path: None for a rank that gives none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._beat = Beat(node=os.environ.get("SLURMD_NODENAME") or platform.node(), pid=os.getpid())
        self._last = 0.0
        self._warned = False

    def __call__(self, **changes: object) -> None:
        """Write the heartbeat, at most twice a second."""
        stage = self._beat.stage
        self._beat = self._beat.model_copy(update=changes)
        now = time.monotonic()
        if self._path is None or (self._beat.stage == stage and now - self._last < _SHORTEST):
            return
        self._last = now
        try:
            # a thread of its own beats at times; another process never has the same folder
            temporary = self._path.with_suffix(f".{threading.get_ident()}.tmp")
            temporary.write_text(self._beat.model_dump_json())
            temporary.replace(self._path)
        except OSError as error:
            end_if_overtaken(self._path.parent)
            if not self._warned:
                _log.warning("no heartbeat: %s", error)
            self._warned = True

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Go on beating by itself, for a stage of unknown length."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_BEAT_S):
                self()

        threading.Thread(target=beat, daemon=True, name="nmbench heart").start()
        try:
            yield
        finally:
            over.set()


def end_if_overtaken(work: Path) -> None:
    """End this process if a later attempt has its work folder: two must not train one cell on and on."""
    if overtaken(work):
        print("another run took this cell over", flush=True)
        os._exit(OVERTAKEN)


class Clock:
    """Seconds by stage, and in all."""

    def __init__(self, heart: Heart) -> None:
        self.heart = heart
        self._seconds: dict[str, float] = {}
        self._begun = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is done within counts for the stage."""
        self.heart(stage=name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def timings(self) -> dict[str, float]:
        """{"train_s": .., .., "total_s": ..}."""
        seconds = {f"{name}_s": round(value, 3) for name, value in self._seconds.items()}
        return seconds | {"total_s": round(time.perf_counter() - self._begun, 3)}
