"""What a sink is, and how it is found."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

from nmbench.plan.describe import missing_requirements
from nmbench.sinks.finished import Finished

GROUP = "nmbench.sinks"


class MissingPackage(Exception):
    """A distribution that the sink needs is not installed; the text says what to do."""


class Sink:
    """Takes ended attempts, in a process of its own. Whatever a method raises ends this sink, and nothing else.

    A run starts such a process whenever cells have ended. What it prints goes to `sink.log` in its folder. An attempt
    may come again (`nmbench export` sends all there are): `Finished.run_id` is the same then, and the new one should
    take the old one's place.
    """

    #: distributions that it imports; "a|b" where one of the two is enough
    requires: ClassVar[tuple[str, ...]] = ()
    #: what installs them
    install: ClassVar[str] = ""

    def open(self, folder: Path, matrix: str) -> None:
        """Once a process, before its first attempt. `folder` exists and is the sink's own; `matrix` is a name."""

    def write(self, cell: Finished) -> None:
        """One attempt, ended well or not."""
        raise NotImplementedError

    def close(self) -> None:
        """Once a process, after its last attempt."""


def names() -> list[str]:
    """The names of all sinks that are installed, theirs of other packages too."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load(name: str) -> Sink:
    """A new sink. Raises MissingPackage, or whatever its import raises; KeyError for a name that no package has."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    cls = found[name].load()
    if missing := missing_requirements(cls.requires):
        raise MissingPackage(f"it needs {', '.join(missing)}: {cls.install or 'pip install ' + ' '.join(missing)}")
    sink: Sink = cls()
    return sink
