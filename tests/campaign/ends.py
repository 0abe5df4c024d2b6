"""Processes that are killed, signalled, or have a system call fail, at some moment of a run; and what is left of it.

kill, stop, call    one trial; what is wrong afterwards, in words

After each the same command is run again, and must come to where an undisturbed run comes: every cell `ok` exactly once,
what was `ok` before untouched to the byte, weights and figures bit-equal.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.campaign.warm import PLUGINS, Command, Fault, living

MATRIX = """name = "m"
scale = "smoke"
tasks = ["tiny"]
train = {{ steps = 24, pause = 0.02, save_every = 6 }}
[[grid]]
pattern = "2:4"
method = "{method}"
"""
ARGUMENTS = ("run", "m.toml", "--plugins", str(PLUGINS), "--workers", "1", "--device", "cpu")
EQUAL = ("metrics", "sad", "curve", "audit", "cost", "baselines", "facts", "data")
_LONGEST = 120.0  # seconds of a trial's run, which takes one or two
Trial = dict[str, Any]


def project(folder: Path, method: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "m.toml").write_text(MATRIX.format(method=method))
    return folder


def records(folder: Path) -> dict[Path, Any]:
    """Record file -> what it holds; None for half a record."""
    found: dict[Path, Any] = {}
    for path in sorted(folder.glob("results/m/*/*/attempt-*/record.json")):
        try:
            found[path] = json.loads(path.read_bytes())
        except ValueError:
            found[path] = None
    return found


def outcome(folder: Path) -> dict[str, tuple[str, Any]]:
    """Method -> hash of the weights, and what must be equal, of each `ok` cell."""
    return {
        record["cell"]["method"]: (
            hashlib.sha256((path.parent / "weights.safetensors").read_bytes()).hexdigest(),
            {key: record.get(key) for key in EQUAL},
        )
        for path, record in records(folder).items()
        if record and record["status"] == "ok"
    }


@functools.cache
def undisturbed(scratch: Path, method: str) -> tuple[dict[str, tuple[str, Any]], float]:
    """What a run comes to, and how long it takes."""
    folder = project(scratch / f"undisturbed-{method}", method)
    begun = time.monotonic()
    command = Command(folder, *ARGUMENTS)
    assert command.wait(_LONGEST) == 0, command.said
    return outcome(folder), time.monotonic() - begun


def kill(scratch: Path, number: int) -> tuple[Trial, list[str]]:
    """SIGKILL at a random moment or at a system call, of the parent, a worker, or all of them."""
    draw = random.Random(f"kill {number}")
    target = draw.choice(["parent", "worker", "all"])
    if draw.random() < 0.5 and target != "all":
        call = draw.choice(["rename", "fsync", "mkdir", "open"])
        fault = Fault(target, call, draw.randint(1, 40 if call == "open" else 16), 0)
        return _disturbed(scratch, f"kill-{number}", draw, fault=fault)
    return _disturbed(scratch, f"kill-{number}", draw, [(target, signal.SIGKILL)])


def stop(scratch: Path, number: int) -> tuple[Trial, list[str]]:
    """Other signals: asked to end (once or twice), hung up, stopped and continued."""
    draw = random.Random(f"stop {number}")
    target = draw.choice(["parent", "parent", "worker"])
    signals = draw.choice([[signal.SIGTERM], [signal.SIGINT], [signal.SIGHUP], [signal.SIGINT, signal.SIGINT],
                           [signal.SIGSTOP, signal.SIGCONT]])  # fmt: skip
    return _disturbed(scratch, f"stop-{number}", draw, [(target, one) for one in signals])


def call(scratch: Path, number: int) -> tuple[Trial, list[str]]:
    """A system call that fails once; the rest of the matrix has to go on."""
    draw = random.Random(f"call {number}")
    name = draw.choice(["rename", "fsync", "mkdir", "open"] * 4 + ["flock"])
    role = "parent" if name == "flock" else draw.choice(["parent", "worker"])
    code = errno.ENOLCK if name == "flock" else draw.choice([errno.EIO, errno.ENOSPC, errno.EACCES])
    count = 1 if name == "flock" else draw.randint(1, 40 if name == "open" else 16)
    return _disturbed(scratch, f"call-{number}", draw, fault=Fault(role, name, count, code))


def _disturbed(
    scratch: Path,
    name: str,
    draw: random.Random,
    signals: list[tuple[str, int]] | None = None,
    fault: Fault | None = None,
) -> tuple[Trial, list[str]]:
    method = draw.choice(["sr-ste", "asp"])
    wanted, seconds = undisturbed(scratch, method)
    folder = project(scratch / name, method)
    command = Command(folder, *ARGUMENTS, fault=fault)
    moment = draw.uniform(0.0, seconds)
    if signals:
        time.sleep(moment)
        for target, number in signals:
            _send(command, target, number)
            time.sleep(draw.choice([0.0, 0.05, 0.3]))
    wrong = [] if _ended(command) else ["it did not end"]
    told = command.said
    left = _left(folder)
    wrong += [f"{len(left)} processes outlive it"] * bool(left) + _traceback(told, "the disturbed run")
    if fault is not None and fault.error and fault.call != "flock" and command.returncode == 2 and "nmbench: " in told:
        wrong += [] if fault.role == "parent" and "start " not in told else ["the matrix did not go on"]
    before = {path: path.read_bytes() for path, record in records(folder).items() if record and _ok(record)}
    wrong += [f"half a record: {path.parent.name}" for path, record in records(folder).items() if record is None]
    wrong += _after(folder, before, wanted)
    return {"what": repr(fault or signals), "method": method, "exit": command.returncode}, wrong


def _send(command: Command, target: str, number: int) -> None:
    pids = {"parent": [command.pid], "worker": command.others(), "all": living(command.folder)}[target]
    for pid in pids:
        if command.poll() is None or pid != command.pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def _ended(command: Command) -> bool:
    try:
        command.wait(_LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        return False
    return True


def _left(folder: Path) -> list[int]:
    """Processes that are still there five seconds later; they are ended."""
    end = time.monotonic() + 5
    while (left := living(folder)) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def _traceback(text: str, where: str) -> list[str]:
    place = text.find("Traceback")
    return [] if place < 0 else [f"a traceback in {where}: {text[place:][-400:]}"]


def _ok(record: Any) -> bool:
    return bool(record["status"] == "ok")


def _after(folder: Path, before: dict[Path, bytes], wanted: dict[str, tuple[str, Any]]) -> list[str]:
    """Run it again; what is not as it would be without the disturbance."""
    (folder / "out.log").unlink(missing_ok=True)
    again = Command(folder, *ARGUMENTS)
    wrong = [] if _ended(again) else ["the next run did not end"]
    if again.returncode:
        wrong.append(f"the next run ended with {again.returncode}: {again.said[-300:]}")
    wrong += _traceback(again.said, "the next run")
    for path, data in before.items():
        wrong += [] if path.read_bytes() == data else [f"a finished record changed: {path.parent.parent.name}"]
    done = [record["cell"]["method"] for record in records(folder).values() if record and _ok(record)]
    if sorted(done) != sorted(wanted):
        wrong.append(f"done are {sorted(done)}")
    for method, (weights, figures) in outcome(folder).items():
        wrong += [] if weights == wanted[method][0] else [f"other weights: {method}"]
        wrong += [f"other {key}: {method}" for key in EQUAL if figures[key] != wanted[method][1][key]]
    return wrong
