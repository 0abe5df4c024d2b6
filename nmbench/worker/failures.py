"""What an exception means for a record: its status, its message on one line, and no names of people or places.

kind           exception -> status
first_lines    exception -> at most two lines, joined
without_home   text without the home and working folders
"""

from __future__ import annotations

import os
from pathlib import Path

from nmbench.contract.spec import DataError, DivergedError, NonFiniteError, SkipCell
from nmbench.worker.measure import InvalidResult

__all__ = ["first_lines", "kind", "without_home"]


def kind(error: BaseException) -> str:
    """The status that stands for an exception."""
    from nmbench.plan.describe import PluginError

    names = {cls.__name__ for cls in type(error).__mro__}
    table = [
        ("interrupted", (KeyboardInterrupt,)),
        ("data", (DataError,)),
        ("skipped", (SkipCell,)),
        ("diverged", (DivergedError,)),
        ("nan", (NonFiniteError,)),
        ("invalid", (InvalidResult,)),
        ("import", (ImportError, PluginError)),
        ("oom", (MemoryError,)),
    ]
    for status, classes in table:
        if isinstance(error, classes):
            return status
    if "NonFiniteWeightError" in names:
        return "nan"
    if "OutOfMemoryError" in names or "can't allocate memory" in str(error):
        return "oom"
    return "error"


def first_lines(error: BaseException) -> str:
    """The first two lines of its message, joined; with the type before them where the status does not say it."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()][:2]
    text = "; ".join(lines) or type(error).__name__
    return text if kind(error) in ("data", "skipped", "invalid", "nan") else f"{type(error).__name__}: {text}"


def without_home(text: str) -> str:
    """No user names in what may be committed: the home and working folders become ~ and a dot."""
    text = text.replace(os.getcwd() + os.sep, "").replace(os.getcwd(), ".")
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
