"""The way of attempts to sinks, for `nmbench run` and `nmbench export`: each sink in processes of its own, so that none
can hold up or break a run.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from nmbench._util.child import ask
from nmbench._util.errors import UsageError, nearest
from nmbench.sinks.base import names

_MOST = 100  # attempts a process
_PATIENCE_S = 300.0  # for so many

Warn = Callable[[str], None]


class Outbox:
    """Sends attempts to sinks while other things go on. A sink that fails gets no more; `warn` gets one line of it.

    wanted: names of sinks. folder: where each has a folder. results: of the matrix. patience_s: for each batch.
    Raises UsageError for a name that no installed package has.
    """

    def __init__(
        self, wanted: Sequence[str], folder: Path, results: Path, warn: Warn, patience_s: float = _PATIENCE_S
    ) -> None:
        known = names()
        for name in wanted:
            if name not in known:
                raise UsageError(f"--sink {name!r}: there is no such sink{nearest(name, known)}")
        self.results = results.absolute()
        self._lanes = [
            _Lane(name, folder.absolute() / name, self.results, warn, patience_s) for name in dict.fromkeys(wanted)
        ]

    def send(self, attempt: Path) -> None:
        """Hand over the attempt in a folder below the results; this does not wait."""
        for lane in self._lanes:
            lane.waiting.put(attempt.absolute().relative_to(self.results).as_posix())

    def close(self) -> dict[str, int]:
        """Wait until all is written; the attempts that each sink took, of those that did not fail."""
        for lane in self._lanes:
            lane.waiting.put(None)
        for lane in self._lanes:
            lane.join()
        return {lane.name: lane.written for lane in self._lanes if not lane.failed}

    @property
    def failed(self) -> bool:
        """Did any of them fail?"""
        return any(lane.failed for lane in self._lanes)


class _Lane(threading.Thread):
    """One sink: a process takes what is waiting, one after the other."""

    def __init__(self, name: str, folder: Path, results: Path, warn: Warn, patience_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self.command = ("nmbench.sinks", name, str(folder), str(results))
        self.warn, self.patience_s = warn, patience_s
        self.waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.written, self.failed = 0, False
        self.start()

    def run(self) -> None:
        """Until None comes, or the sink fails."""
        last = False
        while not last and not self.failed:
            batch = [self.waiting.get()]
            while len(batch) < _MOST and batch[-1] is not None and not self.waiting.empty():
                batch.append(self.waiting.get())
            last = batch[-1] is None
            if attempts := [attempt for attempt in batch if attempt is not None]:
                self._send(attempts)

    def _send(self, attempts: list[str]) -> None:
        try:
            reply = ask(*self.command, *attempts, timeout=self.patience_s)
            answer, ending = reply.answer or {}, reply.ending
        except OSError as error:
            answer, ending = {}, str(error)
        self.written += answer.get("written", 0)
        if reason := answer.get("error", "" if answer else ending):
            self.failed = True
            self.warn(f"sink {self.name} gave up, everything else goes on: {reason}")
