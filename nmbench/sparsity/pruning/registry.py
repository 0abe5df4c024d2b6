"""Which pruners are installed.

load(name)   the class of a pruner, by its entry-point name
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points

from nmbench._util.errors import nearest
from nmbench.sparsity.pruning.base import Pruner

GROUP = "nmbench.pruners"


@functools.cache
def _found() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def names() -> list[str]:
    """Names of all installed pruners."""
    return sorted(_found())


def load(name: str) -> type[Pruner]:
    """The class of the pruner called `name`. Raises ValueError for an unknown name or a class of another kind."""
    if name not in _found():
        raise ValueError(f"unknown pruner {name!r}{nearest(name, names())}")
    cls = _found()[name].load()
    if not (isinstance(cls, type) and issubclass(cls, Pruner)):
        raise ValueError(
            f"pruner {name!r} ({_found()[name].value}) is not a subclass of nmbench.sparsity.pruning.Pruner"
        )
    return cls
