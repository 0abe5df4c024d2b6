"""`nmbench doctor --on E`: one small job that says what its node is like, and what the two see of each other's files.

Both sides write into one folder: `here.json` by who asks, `there.json` by the job, then `back.json` and `done.json`,
each once the other's is seen. Clocks are compared through the times that the shared folder gives to files.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nmbench._util.errors import UsageError
from nmbench._util.files import loads, write_json
from nmbench._util.machine import cores, gpus, versions
from nmbench.engines.engine import Busy, Engine, Needs, Phase, Ticket, Unreachable
from nmbench.plan.sources import core_hash

_POLL_S = 0.2
_PATIENCE_S = 120.0  # for a file of the other side
_ASK_S = 5.0  # between two questions to the engine
_SETTLE_S = 60.0  # after its job is gone


class Machine(BaseModel):
    """What one side says of itself. offset: its clock less the shared folder's, seconds."""

    node: str
    code: str
    python: str
    torch: str
    cores: int
    gpus: list[str]
    free: int
    offset: float
    written: float  # by its own clock
    locked: bool | None = None  # could it lock what the other holds?

    @classmethod
    def here(cls, folder: Path, locked: bool | None = None) -> Machine:
        """This one; writes a file into the folder to see its time there."""
        stamp = folder / f"clock-{platform.node()}-{os.getpid()}"
        stamp.write_text("")
        now = time.time()
        stamp.write_text("now")
        return cls(
            node=os.environ.get("SLURMD_NODENAME") or platform.node(),
            code=core_hash(),
            python=platform.python_version(),
            torch=versions().get("torch", "none"),
            cores=cores(),
            gpus=[gpu["name"] for gpu in gpus()],
            free=shutil.disk_usage(folder).free,
            offset=now - stamp.stat().st_mtime,
            written=time.time(),
            locked=locked,
        )


@dataclass(frozen=True)
class Findings:
    """here, there: the two machines. waited: seconds in the queue. to_here, to_there: until a new file was seen."""

    here: Machine
    there: Machine
    waited: float
    to_here: float
    to_there: float | None

    def lines(self) -> list[tuple[bool, str]]:
        """(is it well, what it is), a line each."""
        here, there = self.here, self.there
        gap = abs(there.offset - here.offset)
        seen = "never seen there" if self.to_there is None else f"there after {self.to_there:.1f} s"
        code = there.code == here.code
        other = (
            "" if (there.python, there.torch) == (here.python, here.torch) else f" (here {here.python}, {here.torch})"
        )
        return [
            (True, f"node      {there.node}, {there.cores} cores, {', '.join(there.gpus) or 'no GPU visible'}"),
            (True, f"started   after {self.waited:.0f} s"),
            (code, f"code      {'the same as here' if code else f'{there.code} there, {here.code} here'}"),
            (not other, f"python    {there.python} with torch {there.torch}{other}"),
            (self.to_there is not None, f"folder    a new file is seen here after {self.to_here:.1f} s, {seen}"),
            (gap < 60, f"clocks    {gap:.1f} s apart"),
            (True, f"locks     {'do not reach across machines' if there.locked else 'reach across machines'}"),
            (there.free > 2**30, f"free      {there.free / 2**30:.1f} GiB in the folder"),
        ]


def ask(engine: Engine, folder: Path, needs: Needs, limit_s: float = 900.0) -> Findings:
    """Send a probe out and listen to it. Raises UsageError where it does not come to answer."""
    folder.mkdir(parents=True)
    here = Machine.here(folder)
    write_json(folder / "here.json", here.model_dump())
    command = (sys.executable, "-m", "nmbench", "doctor", "--probe", str(folder.absolute()))
    log = folder / "probe.log"
    ticket = Ticket(f"nm-probe-{folder.name}", command, Path.cwd(), log.absolute(), needs)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = time.time()
        try:
            engine.check(needs)
            handle = engine.submit(ticket)
        except (Busy, Unreachable) as error:
            raise UsageError(f"{engine.name}: {error}") from None
        told = None
        try:
            told = _wait(folder / "there.json", limit_s, lambda: _gone(engine, handle))
        finally:  # Ctrl-C too
            if told is None:
                engine.cancel([handle])
        seen = time.time()
        if told is None:
            raise UsageError(f"the probe gave no sign in {folder}: {_why(log)}")
        there = Machine.model_validate(told)
        write_json(folder / "back.json", {"written": time.time()})
    done = _wait(folder / "done.json", _PATIENCE_S, lambda: False)
    shift = there.offset - here.offset  # of the clocks
    arrived = max(0.0, seen - (there.written - shift))
    waited = max(0.0, there.written - shift - begun)
    to_there = None if done is None or done["seconds"] is None else max(0.0, float(done["seconds"]) - shift)
    return Findings(here, there, waited, arrived, to_there)


def answer(folder: Path) -> None:
    """The probe itself, on its node."""
    there = Machine.here(folder, _can_lock(folder / "lock"))
    write_json(folder / "there.json", there.model_dump())
    back = _wait(folder / "back.json", _PATIENCE_S, lambda: False)
    write_json(folder / "done.json", {"seconds": None if back is None else time.time() - float(back["written"])})


def _can_lock(file: Path) -> bool | None:
    """None: there are no locks at all."""
    try:
        with file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _gone(engine: Engine, handle: str) -> bool:
    try:
        return engine.fates([handle])[handle].phase is Phase.GONE
    except Unreachable:
        return False


def _wait(file: Path, limit_s: float, over: Callable[[], bool]) -> dict[str, Any] | None:
    """What is in `file` once it is there; None: it did not come, though `over` for a while or the time is up."""
    end, asked, late = time.monotonic() + limit_s, time.monotonic() + _ASK_S, False
    while time.monotonic() < end:
        try:
            found: dict[str, Any] = loads(file.read_bytes())
            return found
        except (OSError, ValueError):
            time.sleep(_POLL_S)
        if time.monotonic() > asked:
            asked = time.monotonic() + _ASK_S
            os.listdir(file.parent)  # some file systems look again then
            if not late and over():  # its file may still be on its way
                late, end = True, min(end, time.monotonic() + _SETTLE_S)
    return None


def _why(log: Path) -> str:
    try:
        text = log.read_text(errors="replace").strip()
    except OSError:
        text = ""
    last = text.splitlines()[-1:]
    return f"its log ends: {last[0]}" if last else "it printed nothing; do the nodes see this folder?"
