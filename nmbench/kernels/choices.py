"""Choices that were timed once, kept on disk: nmbench.cache.cache_dir()/kernels, a file for each machine.

Choice     which backend won, with what settings, and the times
Choices    key -> Choice, read from a file and written back whole or not at all
machine    what a file is for: GPU and library versions; fingerprint is the same in a few letters
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import nmbench
from nmbench.cache import cache_dir
from nmbench.kernels.backend import Settings

__all__ = ["Choice", "Choices", "fingerprint", "machine"]


@dataclass(frozen=True)
class Choice:
    """winner: a backend, or "dense". times: microseconds of every candidate in one pass, "dense" among them.

    best: the fastest of the sparse ones. settings: those of `best`.
    """

    winner: str
    best: str
    settings: Settings
    times: dict[str, float]


def machine(device: torch.device) -> dict[str, Any]:
    """What a time depends on, besides the problem."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "capability": list(torch.cuda.get_device_capability(device)) if cuda else [0, 0],
        "nmbench": nmbench.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "cusparselt": torch.backends.cusparselt.version() if cuda else None,
    }


@functools.cache
def fingerprint(device: torch.device) -> str:
    """Of `machine(device)`: settings that were found on one machine mean nothing on another."""
    return hashlib.sha256(json.dumps(machine(device), sort_keys=True).encode()).hexdigest()[:16]


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


class Choices:
    """The choices of one machine. `note` says what was wrong with the file, or is ""."""

    def __init__(self, device: torch.device, keep: bool = True) -> None:
        """keep: read and write the file; else nothing is remembered."""
        self.machine = machine(device)
        self.path: Path | None = cache_dir() / "kernels" / f"choices-{fingerprint(device)}.json" if keep else None
        self.note = ""
        self._known: dict[str, Choice] = {}
        self._new = False
        self._read()

    def _read(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            self._known = {key: _choice(value) for key, value in told["choices"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.note = f"the choices kept in {self.path} could not be read ({type(error).__name__}): timed anew"

    @staticmethod
    def key(**about: Any) -> str:
        """A key of what a choice depends on (JSON values)."""
        return json.dumps(about, sort_keys=True, separators=(",", ":"))

    def get(self, key: str) -> Choice | None:
        """What was chosen for it, or None."""
        return self._known.get(key)

    def put(self, key: str, choice: Choice) -> None:
        """Remember it; `write` puts it on disk."""
        self._known[key] = choice
        self._new = True

    def write(self) -> None:
        """The file, if something is new: to a temporary name, then renamed. No cache folder: slower, nothing else."""
        if self.path is None or not self._new:
            return
        kept = {key: vars(choice) for key, choice in sorted(self._known.items())}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"machine": self.machine, "choices": kept}, indent=1), encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            self.note = self.note or f"the choices could not be kept in {self.path} ({type(error).__name__})"
            with contextlib.suppress(OSError):
                temporary.unlink()


def _choice(told: dict[str, Any]) -> Choice:
    settings = tuple((str(name), int(value)) for name, value in told["settings"])
    times = {str(name): float(us) for name, us in told["times"].items()}
    choice = Choice(str(told["winner"]), str(told["best"]), settings, times)
    if choice.winner not in (choice.best, "dense") or not {choice.best, "dense"} <= set(times):
        raise ValueError("a choice without its times")
    return choice
