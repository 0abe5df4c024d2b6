"""What a plugin does to a process of its own. Run by nmbench.testing.isolation, one process a question.

python -m nmbench.testing.spy import REFERENCE [MODULE ...]    import it, after the modules named
python -m nmbench.testing.spy train REFERENCE FOLDER WEIGHTS   load WEIGHTS, then train and evaluate two sparse cells

Python's audit hook sees what Python code opens, connects and renames; a C library that writes behind its back is seen
by what it leaves on disk.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmbench._util import child
from nmbench._util.errors import first_line
from nmbench.plan.describe import PluginError, load_task
from nmbench.records import weights as files
from nmbench.testing.bench import PATTERN, Bench, drawn, generators

_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"}
_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "shutil.copyfile", "shutil.move"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class ImportReport:
    """What importing a plugin did; `drawn` names the random generators, `moved`: is the working folder another?"""

    seconds: float
    modules: list[str]
    drawn: list[str]
    network: list[str]
    written: list[str]
    cuda: bool
    moved: bool


@dataclass(frozen=True)
class TrainReport:
    """What training two cells did: layers that break the pattern, files written, bytes of tensors alive after each."""

    broken: list[str]
    written: list[str]
    live: list[int]
    left: list[str]  # in the working folder


class _Watch:
    """Collects what the audit hook sees, from `on` to `off`; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.network: list[str] = []
        self.written: list[str] = []
        self._active = False
        sys.addaudithook(self._hook)

    def __enter__(self) -> _Watch:
        self._active = True
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in _NETWORK:
            address = args[1] if event in ("socket.connect", "socket.bind") else args[0]
            if isinstance(address, tuple | str):  # netlink and the like are no network
                self.network.append(f"{event} {address!r}"[:120])
        elif event == "open":
            path, mode, flags = args
            writing = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)
            if writing and isinstance(path, str | bytes | os.PathLike):
                self._note(path)
        elif event in _CHANGES:
            self._note(args[1] if event in ("os.rename", "shutil.move", "shutil.copyfile") else args[0])

    def _note(self, path: Any) -> None:
        text = os.path.abspath(os.fsdecode(path))
        if "__pycache__" not in text and not text.startswith(("/dev/", "/proc/")):
            self.written.append(text)


def _import(reference: str, first: list[str]) -> ImportReport:
    import torch

    for name in first:
        try:
            __import__(name)
        except Exception:
            continue
    known, before, folder = set(sys.modules), generators(), os.getcwd()
    watch = _Watch()
    begun = time.perf_counter()
    with watch:
        load_task(reference)
    seconds = time.perf_counter() - begun
    new = sorted({name.partition(".")[0] for name in set(sys.modules) - known})
    return ImportReport(
        seconds=seconds,
        modules=new,
        drawn=drawn(before),
        network=watch.network,
        written=watch.written,
        cuda=bool(torch.cuda.is_initialized()),  # type: ignore[no-untyped-call]  # torch's own
        moved=os.getcwd() != folder,
    )


def _train(reference: str, folder: Path, weights: Path) -> TrainReport:
    import torch

    from nmbench.sparsity import audit

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    bench = Bench(load_task(reference), folder)
    model = bench.build(bench.spec())
    files.load(model, weights)
    sparse = audit(model, PATTERN, bench.candidates(model))
    broken = [layer.name for layer in sparse.layers if layer.violations]
    del model
    watch, live = _Watch(), []
    for again in range(2):
        with watch:
            bench.trained(again=again)
        bench.forget()
        live.append(_live_bytes())
    return TrainReport(broken, watch.written, live, os.listdir("."))


def _live_bytes() -> int:
    import torch

    gc.collect()
    held = {}
    for thing in gc.get_objects():
        # by its type: asking a proxy isinstance() would wake it up
        if issubclass(type(thing), torch.Tensor) and thing.layout is torch.strided and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())


def main(arguments: list[str]) -> None:
    """Answer the question that the arguments ask, or {"unimportable": why}."""
    child.die_with_parent()
    verb, reference, *rest = arguments
    try:
        report = _import(reference, rest) if verb == "import" else _train(reference, Path(rest[0]), Path(rest[1]))
    except (ImportError, PluginError) as error:
        child.answer({"unimportable": first_line(error)})
    else:
        child.answer(asdict(report))


if __name__ == "__main__":
    main(sys.argv[1:])
