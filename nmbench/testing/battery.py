"""A conformance battery: named checks, what became of each, and the counts. Knows nothing of tasks or methods.

Check, check    one check; the decorator that makes it of a function
Failed, Skip    raised by a check: what is wrong, or why it cannot be made here
Outcome         what became of one check
Battery         all outcomes; `ok` is False if one failed, or if nothing ran
run             checks and a context -> Battery
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Battery", "Check", "Failed", "Outcome", "Skip", "check", "run"]


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


@dataclass(frozen=True)
class Outcome:
    """status: "passed", "skipped", "expected failure" or "failed"; `message` says why, "" where it passed."""

    name: str
    promise: str
    status: str
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
        return tuple(outcome.name for outcome in self.outcomes if outcome.status == "failed")

    @property
    def ran(self) -> int:
        """Checks that said something: passed, failed, or failed as expected."""
        return len(self.outcomes) - self.count("skipped")

    @property
    def ok(self) -> bool:
        """Nothing failed, and something passed: a battery that ran nothing proves nothing."""
        return not self.failed and self.count("passed") > 0

    @property
    def summary(self) -> str:
        """The counts, in words."""
        statuses = ("passed", "skipped", "expected failure", "failed")
        return ", ".join(f"{self.count(status)} {status}" for status in statuses)

    def raise_for_failures(self) -> None:
        """Raises AssertionError that names every failed check, or says that nothing ran; for a plugin's own pytest."""
        if self.ok:
            return
        lines = [f"{o.name}: {o.message}" for o in self.outcomes if o.status == "failed"]
        raise AssertionError("\n".join([f"{self.subject}: {self.summary}", *(lines or ["no check ran"])]))


def check(promise: str) -> Callable[[Callable[[Any], None]], Check]:
    """Make a check of a function of the context; its name is the function's, with dashes."""

    def made(body: Callable[[Any], None]) -> Check:
        return Check(body.__name__.replace("_", "-"), promise, body)

    return made


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
    if unknown := sorted(set(expected) - {one.name for one in checks}):
        known = ", ".join(one.name for one in checks)
        raise ValueError(f"expected failures name no check: {', '.join(unknown)}; there are: {known}")
    outcomes = []
    for one in checks:
        begun = time.perf_counter()
        status, message = _made(one, context)
        if one.name in expected:
            status, message = _expected(status, message, expected[one.name])
        outcome = Outcome(one.name, one.promise, status, message, time.perf_counter() - begun)
        outcomes.append(outcome)
        told(outcome)
    return Battery(subject, tuple(outcomes))


def _made(one: Check, context: Any) -> tuple[str, str]:
    try:
        one.body(context)
    except Skip as why:
        return "skipped", str(why)
    except Failed as why:
        return "failed", str(why)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        lines = str(error).strip().splitlines() or [""]
        return "failed", f"{type(error).__name__}: {lines[0]} ({last.filename.rpartition('/')[2]}:{last.lineno})"
    return "passed", ""


def _expected(status: str, message: str, reason: str) -> tuple[str, str]:
    if status == "failed":
        return "expected failure", f"{reason} ({message})"
    if status == "passed":
        return "failed", f"it was expected to fail ({reason}), and passes: take it off the list"
    return status, message
