"""What a plugin does to a process of its own. Run by nmbench.testing.isolation, one process a question.

python -m nmbench.testing.spy import REFERENCE [MODULE ...]    import it, after the modules named
python -m nmbench.testing.spy train REFERENCE FOLDER WEIGHTS   load WEIGHTS, then train and evaluate two sparse cells

The answer is one line of JSON after a record separator, for the plugin may print too. Python's audit hook sees what
Python code opens, connects and renames; a C library that writes behind its back is seen by what it leaves on disk.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"}
_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "shutil.copyfile", "shutil.move"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


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


def _random_state() -> list[str]:
    import numpy as np
    import torch

    numbers = np.random.get_state(legacy=False)
    return [
        str(hash(random.getstate())),
        repr(numbers["state"]["pos"]) + str(hash(numbers["state"]["key"].tobytes())),
        str(hash(torch.get_rng_state().numpy().tobytes())),
    ]


def _import(reference: str, first: list[str]) -> dict[str, Any]:
    import torch

    from nmbench.plan import describe as plugins

    for name in first:
        try:
            __import__(name)
        except Exception:
            continue
    known, before, folder = set(sys.modules), _random_state(), os.getcwd()
    watch = _Watch()
    begun = time.perf_counter()
    with watch:
        plugins.load_task(reference)
    seconds = time.perf_counter() - begun
    new = sorted({name.partition(".")[0] for name in set(sys.modules) - known})
    return {
        "seconds": seconds,
        "modules": new,
        "drawn": [
            name for name, a, b in zip(("random", "numpy", "torch"), before, _random_state(), strict=True) if a != b
        ],
        "moved": os.getcwd() != folder,
        "cuda": bool(torch.cuda.is_initialized()),  # type: ignore[no-untyped-call]
        "network": watch.network,
        "written": watch.written,
    }


def _train(reference: str, folder: Path, weights: Path) -> dict[str, Any]:
    import torch

    from nmbench.plan.describe import load_task
    from nmbench.records import weights as files
    from nmbench.sparsity import audit
    from nmbench.testing.bench import PATTERN, Bench

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
    return {"broken": broken, "written": watch.written, "live": live, "folder": os.listdir(".")}


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
    """Answer the question that the arguments ask."""
    verb, reference, *rest = arguments
    answer = _import(reference, rest) if verb == "import" else _train(reference, Path(rest[0]), Path(rest[1]))
    sys.stdout.write("\x1e" + json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
