"""A conformance battery: named checks, what became of each, and the counts. Knows nothing of tasks or methods."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nmbench._util.errors import first_line


class Failed(AssertionError):
    """The plugin breaks the promise that the check is about; the text says how, in a line or two."""


class Skip(Exception):
    """The check cannot be made of this plugin; the text says why."""


@dataclass(frozen=True)
class Check:
    """One promise of the contract. `name` tells it in reports and in a plugin's list of expected failures."""

    name: str
    promise: str
    body: Callable[[Any], None]


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    SKIPPED = "skipped"
    EXPECTED = "expected failure"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one check; `message` says why, "" where it passed."""

    name: str
    promise: str
    status: Status
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Battery:
    """What became of every check of one plugin."""

    subject: str
    outcomes: tuple[Outcome, ...]

    def count(self, status: str) -> int:
        """Number of checks that ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(outcome.name for outcome in self.outcomes if outcome.status is Status.FAILED)

    @property
    def ran(self) -> int:
        """Checks that said something: passed, failed, or failed as expected."""
        return len(self.outcomes) - self.count(Status.SKIPPED)

    @property
    def ok(self) -> bool:
        """Nothing failed, and something passed: a battery that ran nothing proves nothing."""
        return not self.failed and self.count(Status.PASSED) > 0

    @property
    def summary(self) -> str:
        """The counts, in words."""
        return ", ".join(f"{self.count(status)} {status}" for status in Status)

    def raise_for_failures(self) -> None:
        """Raises AssertionError that names every failed check, or says that nothing ran; for a plugin's own pytest."""
        if self.ok:
            return
        lines = [f"{o.name}: {o.message}" for o in self.outcomes if o.status is Status.FAILED]
        raise AssertionError("\n".join([f"{self.subject}: {self.summary}", *(lines or ["no check ran"])]))


def check(promise: str) -> Callable[[Callable[[Any], None]], Check]:
    """Make a check of a function of the context; its name is the function's, with dashes."""

    def made(body: Callable[[Any], None]) -> Check:
        return Check(body.__name__.replace("_", "-"), promise, body)

    return made


def collected(module: Mapping[str, Any]) -> tuple[Check, ...]:
    """The checks that `module` (its globals()) defines, in their order there."""
    return tuple(value for value in module.values() if isinstance(value, Check))


def run(
    subject: str,
    checks: Sequence[Check],
    context: Any,
    expected: Mapping[str, str] | None = None,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> Battery:
    """Make all checks in their order. `expected` names those that may fail, with the reason; `told` hears of each.

    An expected failure that passes after all fails: its reason is out of date. Raises ValueError if `expected` names a
    check that does not exist.
    """
    expected = dict(expected or {})
    names = [check.name for check in checks]
    if unknown := sorted(set(expected) - set(names)):
        raise ValueError(f"expected failures name no check: {', '.join(unknown)}; there are: {', '.join(names)}")
    outcomes = []
    for check in checks:
        begun = time.perf_counter()
        status, message = _made(check, context)
        if check.name in expected:
            status, message = _expected(status, message, expected[check.name])
        outcome = Outcome(check.name, check.promise, status, message, time.perf_counter() - begun)
        outcomes.append(outcome)
        told(outcome)
    return Battery(subject, tuple(outcomes))


def _made(check: Check, context: Any) -> tuple[Status, str]:
    try:
        check.body(context)
    except Skip as why:
        return Status.SKIPPED, str(why)
    except Failed as why:
        return Status.FAILED, str(why)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Status.FAILED, f"{first_line(error)} ({last.filename.rpartition('/')[2]}:{last.lineno})"
    return Status.PASSED, ""


def _expected(status: Status, message: str, reason: str) -> tuple[Status, str]:
    if status is Status.FAILED:
        return Status.EXPECTED, f"{reason} ({message})"
    if status is Status.PASSED:
        return Status.FAILED, f"it was expected to fail ({reason}), and passes: take it off the list"
    return status, message
