"""The backends that are installed, through the entry-point group `nmbench.kernels`; ours are registered the same way.

Found      one of them, or the reason why it cannot be used
backends   all by name, in the order in which the dispatcher asks them
load       one that can be used
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from nmbench._util.errors import first_line, nearest
from nmbench.kernels.backend import Backend

__all__ = ["GROUP", "Found", "backends", "load"]

GROUP = "nmbench.kernels"
_FIRST = ("cusparselt", "cutlass", "triton", "cpu")


@dataclass(frozen=True)
class Found:
    """`backend` is None where `reason` says why it cannot be used. `version`: distribution and version it came with."""

    name: str
    backend: Backend | None
    reason: str = ""
    version: str = ""


@functools.cache
def backends() -> dict[str, Found]:
    """Name -> what is there: the fast ones of nmbench, then other packages' by name, `dense` last. Never raises."""
    points = sorted(entry_points(group=GROUP), key=lambda p: (_distribution(p) != "nmbench", p.name))
    by_name: dict[str, Found] = {}
    for point in points:
        by_name.setdefault(point.name, _loaded(point))  # nmbench's own keep their names
    return dict(sorted(by_name.items(), key=lambda item: _order(item[0])))


def load(name: str) -> Backend:
    """The backend of that name. Raises ValueError if there is none, or if it is broken, saying why."""
    installed = backends()
    if name not in installed:
        raise ValueError(f"there is no backend {name!r}{nearest(name, installed)}")
    backend = installed[name].backend
    if backend is None:
        raise ValueError(f"backend {name!r} cannot be used: {installed[name].reason}")
    return backend


def _order(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST) + (name == "dense"), name)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _loaded(point: EntryPoint) -> Found:
    version = f"{_distribution(point)} {point.dist.version if point.dist else '?'}"
    try:
        backend = point.load()()
        if not isinstance(backend, Backend):
            return Found(point.name, None, f"{point.value} is not a subclass of nmbench.kernels.Backend", version)
        if backend.name != point.name:
            return Found(point.name, None, f"its class is named {backend.name!r}", version)
    except BaseException as error:  # a stranger's import may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        return Found(point.name, None, first_line(error), version)
    return Found(point.name, backend, "", version)
