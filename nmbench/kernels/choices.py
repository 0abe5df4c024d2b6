"""Choices that were timed once, kept on disk (nmbench.kernels.cache).

Choice     which backend won, with what settings, and the times
Choices    key -> Choice
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nmbench.kernels.backend import Settings
from nmbench.kernels.cache import Kept

__all__ = ["Choice", "Choices"]


@dataclass(frozen=True)
class Choice:
    """winner: a backend, or "dense". times: microseconds of every candidate in one pass, "dense" among them.

    best: the fastest of the sparse ones. settings: those of `best`.
    """

    winner: str
    best: str
    settings: Settings
    times: dict[str, float]


class Choices:
    """The choices of one machine, read when made; inside `keeping(False)` those of this conversion alone."""

    def __init__(self, device: torch.device) -> None:
        self._file = Kept("choices", device, _choice, vars)
        self._known = self._file.read()
        self._new: dict[str, Choice] = {}

    @property
    def path(self) -> Path | None:
        """Where they are kept, if they are."""
        return self._file.path

    @property
    def note(self) -> str:
        """What was wrong with the file, or ""."""
        return self._file.note

    @staticmethod
    def key(**about: Any) -> str:
        """A key of what a choice depends on (JSON values)."""
        return json.dumps(about, sort_keys=True, separators=(",", ":"))

    def get(self, key: str) -> Choice | None:
        """What was chosen for it, or None."""
        return self._known.get(key)

    def put(self, key: str, choice: Choice) -> None:
        """Remember it; `write` puts it on disk."""
        self._known[key] = self._new[key] = choice

    def write(self) -> None:
        """The file, if something is new."""
        if self._new:
            self._file.add(self._new)


def _choice(told: dict[str, Any]) -> Choice:
    settings = tuple((str(name), int(value)) for name, value in told["settings"])
    times = {str(name): float(us) for name, us in told["times"].items()}
    choice = Choice(str(told["winner"]), str(told["best"]), settings, times)
    if choice.winner not in (choice.best, "dense") or not {choice.best, "dense"} <= set(times):
        raise ValueError("a choice without its times")
    return choice
