"""Where a cell runs. The scheduler decides which cell and when; an executor runs it, and says what became of it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from nmbench.running.job import Beat, TrainingJob


class Cause(StrEnum):
    """Why a process is gone."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    HANG = "hang"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Ending:
    """The process is gone. number: exit status, signal, or seconds of the limit, as the cause has it."""

    cause: Cause
    number: float = 0
    seconds: float = 0.0  # from start to end
    last_line: str = ""  # that it printed


@dataclass(frozen=True)
class Fate:
    """News of a running cell: a heartbeat if there is a new one, the ending once it is gone."""

    beat: Beat | None = None
    ending: Ending | None = None


class Executor(Protocol):
    """Runs jobs in numbered slots (a GPU, a share of the cores). A handle is text, so that it can be written down."""

    device: Literal["cpu", "cuda"]
    threads: int  # of each slot

    def open(self, processes: int) -> int:
        """Get ready for at most so many processes at once; the number of slots."""

    def start(self, job: TrainingJob) -> str:
        """Run a job in as many slots as it takes; its handle. Raises OSError where it cannot be started."""

    def poll(self, handles: Collection[str], wait_s: float) -> dict[str, Fate]:
        """What became of each, asked in one go; before that, wait at most `wait_s` for one of them to end.

        A handle whose fate has an ending is forgotten.
        """

    def stop(self, handles: Collection[str], number: int) -> None:
        """Ask all of them to end, by the signal `number`, end those that do not, and return when they are gone.

        `poll` has their endings.
        """

    def close(self) -> None:
        """No more jobs."""
