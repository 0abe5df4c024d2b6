"""What timing found on this machine, kept on disk: nmbench._util.paths.cache_dir()/kernels, files for each machine."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

import nmbench
from nmbench._util.files import write_json
from nmbench._util.machine import cpu_name, versions
from nmbench._util.paths import cache_dir
from nmbench.kernels.cpu.build import ISA_VARIABLE
from nmbench.kernels.problem import Settings

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
        "device": torch.cuda.get_device_name(device) if cuda else f"{device.type} {cpu_name()}",
        "capability": list(torch.cuda.get_device_capability(device)) if cuda else [0, 0],
        "nmbench": nmbench.__version__,
        "kernels": _kernels(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": versions().get("triton"),
        "isa": os.environ.get(ISA_VARIABLE, ""),
        "cusparselt": torch.backends.cusparselt.version() if cuda else None,
    }


@functools.cache
def fingerprint(device: torch.device) -> str:
    """Of `machine(device)`: settings that were found on one machine mean nothing on another."""
    return hashlib.sha256(json.dumps(machine(device), sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _kernels() -> str:
    """Of the sources of our kernels: a version number says nothing between two releases."""
    package = Path(nmbench.__file__).parent
    ours = ("kernels/triton/*.py", "kernels/cpu/*", "sparsity/fast/triton_*.py")
    files = sorted(file for one in ours for file in package.glob(one) if file.is_file())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


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
            held = json.loads(self.path.read_text(encoding="utf-8"))
            return {key: self._load(value) for key, value in held[self.name].items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Exception as error:  # whatever somebody or something wrote into it
            self.note = f"the {self.name} kept in {self.path} could not be read ({type(error).__name__}): timed anew"
            return {}

    def add(self, values: Mapping[str, T]) -> None:
        """Into the file as it is now, which others may write to as well. No cache folder: slower the next time."""
        if self.path is None:
            return
        kept = {key: self._dump(value) for key, value in sorted({**self.read(), **values}.items())}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"machine": self.machine, self.name: kept})
        except OSError as error:
            self.note = self.note or f"the {self.name} could not be kept in {self.path} ({type(error).__name__})"


@dataclass(frozen=True)
class Choice:
    """winner: a backend, or "dense". times: microseconds of every candidate in one pass, "dense" among them.

    best: the fastest of the sparse ones. settings: those of `best`.
    """

    winner: str
    best: str
    settings: Settings
    times: dict[str, float]


class Choices(Kept[Choice]):
    """The choices of one machine, read when made; inside `keeping(False)` those of this conversion alone."""

    def __init__(self, device: torch.device) -> None:
        super().__init__("choices", device, _choice, vars)
        self._known = self.read()
        self._new: dict[str, Choice] = {}

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
            self.add(self._new)


def _choice(about: dict[str, Any]) -> Choice:
    settings = tuple((str(name), int(value)) for name, value in about["settings"])
    times = {str(name): float(us) for name, us in about["times"].items()}
    choice = Choice(str(about["winner"]), str(about["best"]), settings, times)
    if choice.winner not in (choice.best, "dense") or not {choice.best, "dense"} <= set(times):
        raise ValueError("a choice without its times")
    return choice
