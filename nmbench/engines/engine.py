"""What a driver asks of an engine, and what it gets to know."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from nmbench.records.schema import Status


class Busy(Exception):
    """The engine takes no more for now (a limit of its own); later it will. The text is its own line."""


class Unreachable(Exception):
    """The engine does not answer; what it runs may well go on. The text is its own line."""


@dataclass(frozen=True)
class Needs:
    """Of one ticket, on one node. minutes: that it may take at most. exclusive: nothing beside it on the node."""

    cpus: int = 1
    gpus: int = 0
    minutes: int | None = None
    exclusive: bool = False


@dataclass(frozen=True)
class Ticket:
    """A command to be started on some node.

    name: while one ticket has it, no other with that name runs. folder: where it is started. log: what it prints is
    put at the end of it. after: handles of tickets that have to be gone before.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    needs: Needs = Needs()
    after: tuple[str, ...] = ()


class Phase(StrEnum):
    """Where a ticket stands."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True)
class Fate:
    """What became of a ticket.

    status, message: of a cell that left no record, once the ticket is gone. again: the cell had no part in its end (the
    node failed, time was up), so that another try makes sense. cancelled: a person ended it. message, of a ticket that
    waits: why it cannot start unless somebody does something; "" where it only has to wait.
    """

    phase: Phase
    status: Status = Status.CRASH
    message: str = ""
    again: bool = False
    cancelled: bool = False


class Engine(Protocol):
    """Starts commands on other machines. A handle is text, so that it can be written down."""

    name: str
    accelerated: bool  # its nodes have GPUs, as far as is known
    chains: bool  # it can hold a ticket back until others are gone

    def check(self, needs: Needs) -> None:
        """Raises UsageError where a ticket of such needs could never start."""

    def submit(self, ticket: Ticket) -> str:
        """Take the ticket; its handle. Raises Busy, Unreachable, and UsageError where it is refused for good."""

    def fates(self, handles: Collection[str]) -> dict[str, Fate]:
        """What became of each, asked in one go. Raises Unreachable."""

    def cancel(self, handles: Collection[str]) -> None:
        """Ask all of them to end, in whatever phase they are. Raises Unreachable."""

    def known(self, prefix: str) -> dict[str, str]:
        """Name -> handle of the tickets whose name begins so and that are not gone, whoever submitted them.

        Raises Unreachable.
        """

    def close(self) -> None:
        """Nothing more is asked. What runs goes on."""
