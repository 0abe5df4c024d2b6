"""Fuzzed inputs: each is read, or refused by the exception that its reader documents.

batch      a trial: so many inputs in a process of its own, with limits of time and memory
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import traceback
from pathlib import Path
from typing import Any

from tests.campaign.readers import FUZZERS

_SECONDS = 20  # of processor time for an input; of the clock six times as many, for what waits
_BYTES = 2**31  # of memory beyond what the process had


class _Late(BaseException):
    pass


def _late(number: int, frame: object) -> None:
    raise _Late


_SLOW = {"whole reports and comparisons": 250}  # times as long as the others


def batch(scratch: Path, number: int, inputs: int) -> tuple[dict[str, Any], list[str]]:
    """Batch `number`, of the fuzzer whose turn it is."""
    name = list(FUZZERS)[number % len(FUZZERS)]
    inputs = max(1, inputs // _SLOW.get(name, 1))
    folder = scratch / f"fuzz-{number}"
    folder.mkdir()
    child = multiprocessing.get_context("fork").Process(target=_inputs, args=(name, number, inputs, folder))
    child.start()
    child.join()
    told = folder / "wrong.json"
    wrong: dict[str, list[int]] = (
        json.loads(told.read_text()) if told.exists() else {f"its process ended with {child.exitcode}": [0]}
    )
    said = [f"{len(where)} times, first at input {where[0]}: {what}" for what, where in wrong.items()]
    return {"what": name, "inputs": inputs, "failed": sum(map(len, wrong.values()))}, said


def _inputs(name: str, number: int, inputs: int, folder: Path) -> None:
    import logging

    os.setsid()
    os.chdir(folder)
    log = os.open("out.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.disable(logging.ERROR)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _late)
    read, refusals = FUZZERS[name](folder)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _BYTES, taken + _BYTES))
    wrong: dict[str, list[int]] = {}
    for place in range(inputs):
        draw = random.Random(f"{name} {number} {place}")
        signal.setitimer(signal.ITIMER_PROF, _SECONDS * _SLOW.get(name, 1))
        signal.alarm(6 * _SECONDS * _SLOW.get(name, 1))
        try:
            read(draw)
        except refusals:
            pass
        except BaseException as error:
            wrong.setdefault(_where(error), []).append(place)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
    (folder / "wrong.json").write_text(json.dumps(wrong))


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "campaign" not in frame.filename]
    ours = [frame for frame in frames if {"nmbench", "tasks"} & {*Path(frame.filename).parts}]
    places = ["/".join([*Path(frame.filename).parts[-2:], str(frame.lineno)]) for frame in reversed(ours[-3:])]
    try:
        text = str(error)[:120]
    except Exception:
        text = "?"
    return ascii(f"{type(error).__name__}: {text} at {' < '.join(places)}")
