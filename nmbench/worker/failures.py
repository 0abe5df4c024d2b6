"""What an exception means for a record: its status, its message on one line, and no names of people or places.

kind           exception -> status
first_lines    exception -> at most two lines, joined
without_home   text without the home and working folders
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nmbench._util.errors import message as error_message
from nmbench.contract.run import InvalidResult
from nmbench.contract.spec import DataError, DivergedError, NonFiniteError, SkipCell
from nmbench.records.schema import Status

__all__ = ["first_lines", "kind", "without_home"]

_LONGEST = 2000  # characters of a message in a record


def kind(error: BaseException) -> Status:
    """The status that stands for an exception."""
    from nmbench.plan.describe import PluginError

    table: list[tuple[Status, tuple[type[BaseException], ...]]] = [
        (Status.INTERRUPTED, (KeyboardInterrupt,)),
        (Status.DATA, (DataError,)),
        (Status.SKIPPED, (SkipCell,)),
        (Status.DIVERGED, (DivergedError,)),
        (Status.NAN, (NonFiniteError,)),
        (Status.INVALID, (InvalidResult,)),
        (Status.IMPORT, (ImportError, PluginError)),
        (Status.OOM, (MemoryError,)),
    ]
    for status, classes in table:
        if isinstance(error, classes):
            return status
    names = {cls.__name__ for cls in type(error).__mro__}  # by name, so that torch need not be imported
    if "NonFiniteWeightError" in names:
        return Status.NAN
    if "NothingSparseError" in names:
        return Status.INVALID
    if "OutOfMemoryError" in names or "can't allocate memory" in error_message(error):
        return Status.OOM
    return Status.ERROR


def first_lines(error: BaseException) -> str:
    """The first two lines of its message, joined; with the type before them where the status does not say it."""
    lines = [line for line in error_message(error).strip().splitlines() if line.strip()][:2]
    text = "; ".join(lines)[:_LONGEST] or type(error).__name__
    said = kind(error) in (Status.DATA, Status.SKIPPED, Status.INVALID, Status.NAN)
    return text if said else f"{type(error).__name__}: {text}"


def without_home(text: str) -> str:
    """No user names in what may be committed: the home and working folders become ~ and a dot."""
    with contextlib.suppress(OSError):  # the working folder is gone
        text = text.replace(os.getcwd() + os.sep, "").replace(os.getcwd(), ".")
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
