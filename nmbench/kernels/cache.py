"""What timing found on this machine, kept on disk: nmbench._util.paths.cache_dir()/kernels, files for each machine.

Kept       a file of values by key, read when asked and written back whole or not at all
keeping    a context in which nothing is read or written
machine    what a file is for: GPU, library versions and kernels; fingerprint is the same in a few letters
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

import nmbench
from nmbench._util.paths import cache_dir

__all__ = ["Kept", "fingerprint", "keeping", "machine"]

T = TypeVar("T")

_keeping: ContextVar[bool] = ContextVar("nmbench_keeping", default=True)


@contextlib.contextmanager
def keeping(keep: bool) -> Iterator[None]:
    """With False no `Kept` that is made inside, in this thread, reads or writes its file."""
    token = _keeping.set(keep)
    try:
        yield
    finally:
        _keeping.reset(token)


def machine(device: torch.device) -> dict[str, Any]:
    """What a time depends on, besides the problem."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "capability": list(torch.cuda.get_device_capability(device)) if cuda else [0, 0],
        "nmbench": nmbench.__version__,
        "kernels": _kernels(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "cusparselt": torch.backends.cusparselt.version() if cuda else None,
    }


@functools.cache
def fingerprint(device: torch.device) -> str:
    """Of `machine(device)`: settings that were found on one machine mean nothing on another."""
    return hashlib.sha256(json.dumps(machine(device), sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _kernels() -> str:
    """Of the sources of our kernels: a version number says nothing between two releases."""
    files = sorted((Path(__file__).parent / "triton").glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


class Kept(Generic[T]):
    """Values by key, of one machine. `note` says what was wrong with the file, or is "". Nothing here raises for it."""

    def __init__(self, name: str, device: torch.device, load: Callable[[Any], T], dump: Callable[[T], Any]) -> None:
        """name: of the file and of what it holds, in the plural. load, dump: from and to JSON values."""
        self.name, self.machine, self.note = name, machine(device), ""
        self._load, self._dump = load, dump
        self.path: Path | None = None
        if _keeping.get():
            try:
                self.path = cache_dir() / "kernels" / f"{name}-{fingerprint(device)}.json"
            except RuntimeError as error:  # there is no home folder
                self.note = f"the {name} cannot be kept: {error}"

    def read(self) -> dict[str, T]:
        """What is in the file now. If it cannot be read: nothing, and a note."""
        if self.path is None:
            return {}
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            return {key: self._load(value) for key, value in told[self.name].items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Exception as error:  # whatever somebody or something wrote into it
            self.note = f"the {self.name} kept in {self.path} could not be read ({type(error).__name__}): timed anew"
            return {}

    def add(self, values: Mapping[str, T]) -> None:
        """Into the file as it is now, which others may write to as well: under a temporary name, then renamed.

        No cache folder: slower the next time, nothing else.
        """
        if self.path is None:
            return
        kept = {key: self._dump(value) for key, value in sorted({**self.read(), **values}.items())}
        text = json.dumps({"machine": self.machine, self.name: kept}, indent=1)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            self.note = self.note or f"the {self.name} could not be kept in {self.path} ({type(error).__name__})"
            with contextlib.suppress(OSError):
                temporary.unlink()
