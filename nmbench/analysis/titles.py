"""Short names of settings: what tells each from the others.

titles      setting -> its task, with its model, or everything
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nmbench.analysis.rows import Setting

__all__ = ["titles"]


def titles(settings: Sequence[Setting]) -> dict[Setting, str]:
    """The shortest name of each that tells it from the others: its task, with its model, with everything."""
    found: dict[Setting, str] = {}
    for shorten in (lambda one: one.task, lambda one: f"{one.task}/{one.model}", str):
        counts = Counter(shorten(setting) for setting in settings)
        for setting in settings:
            if counts[shorten(setting)] == 1:
                found.setdefault(setting, shorten(setting))
    return {setting: found.get(setting, str(setting)) for setting in settings}
