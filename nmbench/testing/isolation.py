"""The checks of a task that need a process of their own: importing, writing, memory, loading what was saved.

Each function is one check; the context is a Bench. The processes are nmbench.testing.spy's, one for importing and one
for training, started once for all the checks that read their answers.
"""

import inspect
import os
import sys
from pathlib import Path
from typing import Any

from nmbench._util import child
from nmbench._util.paths import cache_dir
from nmbench.contract.task import Task
from nmbench.records import weights as files
from nmbench.testing.battery import Failed, Skip, check, collected
from nmbench.testing.bench import Bench
from nmbench.testing.spy import ImportReport, TrainReport

__all__ = ["ISOLATION_CHECKS", "reference_of"]

#: seconds that importing may take, beyond the modules that it imports in turn
IMPORT_S = 5.0
#: bytes of tensors that one more training may leave behind
LEAK = 2**20
_LIMIT = 600.0


def reference_of(task: Task) -> str:
    """How a process of its own finds the task's class: "module:name", or "path:file" for a file of a plugin folder."""
    cls = type(task)
    if not cls.__module__.startswith("nmbench_plugin_") and cls.__module__ != "__main__":
        return f"{cls.__module__}:{cls.__qualname__}"
    return f"path:{Path(inspect.getfile(cls)).resolve()}"


@check("importing it draws no random number, starts no CUDA, and touches neither network, files nor the working folder")
def importing_has_no_side_effects(bench: Bench) -> None:
    seen = _imported(bench)
    for what, which in {
        "draws from the random generator of": seen.drawn,
        "goes to the network:": seen.network,
        "writes": seen.written,
        "starts": ["CUDA"] if seen.cuda else [],
        "changes": ["the working folder"] if seen.moved else [],
    }.items():
        if which:
            raise Failed(f"importing it {what} {', '.join(which[:3])}")


@check("importing it takes under 5 s beyond what it imports in turn")
def importing_is_fast(bench: Bench) -> None:
    seen = _imported(bench)
    if seen.seconds < IMPORT_S:
        return
    own = type(bench.task).__module__.partition(".")[0]
    others = [name for name in seen.modules if name != own and not name.startswith("nmbench")]
    again = ImportReport(**_ask(bench, "import", reference_of(bench.task), *others))
    if again.seconds >= IMPORT_S:
        raise Failed(f"importing it takes {again.seconds:.1f} s beyond its requirements; at most {IMPORT_S:g} s")


@check("its saved weights are sparse when a fresh process loads them")
def saved_weights_stay_sparse(bench: Bench) -> None:
    if broken := _trained(bench).broken:
        raise Failed(f"loaded in a fresh process, {', '.join(broken[:3])} break the pattern")


@check("it writes only below the data folder and the resume folder")
def nothing_is_written_elsewhere(bench: Bench) -> None:
    seen = _trained(bench)
    allowed = tuple(str(path) + os.sep for path in (_place(bench), _elsewhere(bench, "home"), _elsewhere(bench, "tmp")))
    outside = sorted({path for path in seen.written if not (path + os.sep).startswith(allowed)})
    if where := [*outside, *(f"./{name}" for name in seen.left)]:
        raise Failed(f"it writes outside its folders: {', '.join(where[:3])}")


@check("one more training leaves no tensors behind")
def memory_is_given_back(bench: Bench) -> None:
    first, second = _trained(bench).live
    if second - first > LEAK:
        raise Failed(f"a second training left {(second - first) / 2**20:.1f} MiB of tensors more than the first")


def _place(bench: Bench) -> Path:
    return bench.folder.resolve() / "spied"


def _imported(bench: Bench) -> ImportReport:
    def ask() -> ImportReport:
        return ImportReport(**_ask(bench, "import", reference_of(bench.task)))

    return bench.remember(ImportReport, ask)


def _trained(bench: Bench) -> TrainReport:
    def ask() -> TrainReport:
        bench.data()
        weights = bench.folder / "trained.safetensors"
        files.save(bench.trained().model, weights)
        place = _place(bench)
        place.mkdir(parents=True, exist_ok=True)
        (place / "data").symlink_to(bench.data_root.resolve(), target_is_directory=True)
        return TrainReport(**_ask(bench, "train", reference_of(bench.task), str(place), str(weights.resolve())))

    return bench.remember(TrainReport, ask)


def _elsewhere(bench: Bench, name: str) -> Path:
    place = bench.folder.resolve() / "elsewhere" / name
    place.mkdir(parents=True, exist_ok=True)
    return place


def _ask(bench: Bench, *arguments: str) -> dict[str, Any]:
    """The answer of a spy in an empty working folder, with a home and a temporary folder of its own."""
    environment = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "NMBENCH_CACHE": str(cache_dir()),
        "HOME": str(_elsewhere(bench, "home")),
        "TMPDIR": str(_elsewhere(bench, "tmp")),
    }
    command = ("nmbench.testing.spy", *arguments)
    reply = child.ask(*command, timeout=_LIMIT, environment=environment, cwd=_elsewhere(bench, "work"))
    if reply.answer is None:
        raise Failed(f"in a process of its own: {reply.ending}")
    if why := reply.answer.get("unimportable"):
        raise Skip(f"a process of its own cannot import {reference_of(bench.task)} ({why})")
    return reply.answer


ISOLATION_CHECKS = collected(globals())
