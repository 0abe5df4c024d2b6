"""Signals that ask a run to end, and why they come: a person, a closed terminal, or a scheduler of jobs.

Schedulers announce a time limit or a preemption by SIGTERM or, where asked to, by SIGUSR1 or SIGUSR2, to one process of
a job or to all at once; so each process listens, and hears the first one only.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from nmbench._util.worded import Worded

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_NEAR_S = 240.0  # before the end of a job: a signal that comes then is about its time limit


class Stop(Worded):
    """Why a run was stopped."""

    CTRL_C = "ctrl-c", "stopped by Ctrl-C"
    HANGUP = "hangup", "stopped because its terminal was closed"
    TIME_LIMIT = "time limit", "stopped before the time limit of its job"
    NOTICE = "notice", "stopped by a notice of the job scheduler (time limit or preemption)"
    CANCELLED = "cancelled", "stopped by the job scheduler (cancelled, requeued or preempted)"
    TERMINATED = "terminated", "stopped by SIGTERM"


class Stopped(KeyboardInterrupt):
    """This process was asked to end; `stop` says why."""

    def __init__(self, number: int) -> None:
        self.stop = reason(number)
        super().__init__(self.stop.words)


def reason(number: int, environment: Mapping[str, str] = os.environ) -> Stop:
    """Why the signal `number` came, as far as it can be told from here."""
    if number in (signal.SIGINT, signal.SIGHUP):
        return Stop.CTRL_C if number == signal.SIGINT else Stop.HANGUP
    end = environment.get("SLURM_JOB_END_TIME", "")
    if end.isdecimal() and int(end) - time.time() < _NEAR_S:
        return Stop.TIME_LIMIT
    if number in (signal.SIGUSR1, signal.SIGUSR2):
        return Stop.NOTICE
    return Stop.CANCELLED if "SLURM_JOB_ID" in environment else Stop.TERMINATED


def listen(heard: Callable[[int], None]) -> dict[int, object]:
    """Call `heard` with the first signal that asks to end; the handlers before. What was ignored (nohup) stays so."""
    done = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal done
        if not done:
            done = True
            heard(number)

    numbers = [number for number in _NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handle) for number in numbers}


@contextlib.contextmanager
def listening(heard: Callable[[int], None]) -> Iterator[None]:
    """`listen` for as long as the context lasts."""
    before = listen(heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def raise_stopped(number: int) -> None:
    """For `listen`: the process ends by an exception."""
    raise Stopped(number)


def ignore() -> None:
    """From here on nothing is worth breaking off for."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
