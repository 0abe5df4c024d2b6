"""Errors that are told to a person in one or two lines, without a traceback."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """What is wrong, where, and what to do. The command line prints it and exits with status 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the nearest known name, else the list of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else ""


def message(error: BaseException) -> str:
    """Its text, with all its lines; "" where the exception of a stranger fails to say it."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:
        return ""


def first_line(error: BaseException) -> str:
    """Type and first line of what anything may raise: "KeyError: 'x'"."""
    lines = message(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
