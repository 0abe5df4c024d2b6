"""Methods: how a network with an N:M pattern is trained. Each is a short file and an entry point in `nmbench.methods`.

load(name)   the class of a method, by its entry-point name
"""

from __future__ import annotations

import difflib
import functools
from importlib.metadata import EntryPoint, entry_points

from nmbench.sparsity.methods.base import Method

__all__ = ["Method", "load", "names"]

GROUP = "nmbench.methods"


@functools.cache
def _found() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def names() -> list[str]:
    """Names of all installed methods."""
    return sorted(_found())


def load(name: str) -> type[Method]:
    """The class of the method called `name`. Raises ValueError for an unknown name or a class of another kind."""
    if not isinstance(name, str):
        raise ValueError(f"method: the name of one, or a Method, is wanted, not {name!r:.60}")
    if name not in _found():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}"
        raise ValueError(f"unknown method {name!r}; {hint}")
    cls = _found()[name].load()
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise ValueError(f"method {name!r} ({_found()[name].value}) is not a subclass of nmbench.sparsity.Method")
    return cls
