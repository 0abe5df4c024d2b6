"""What is going on, seen from files alone: heartbeats, notes of tickets. `nmbench status` needs no driver alive."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from nmbench.records.attempt import number_of
from nmbench.records.store import Store
from nmbench.running.flight import noted
from nmbench.running.job import Beat


@dataclass(frozen=True)
class Activity:
    """Of one cell: its last heartbeat and how old that is, seconds; or the ticket that it waits in."""

    beat: Beat | None = None
    age: float = 0.0
    ticket: str = ""
    engine: str = ""

    @property
    def words(self) -> str:
        """ "train step 12/100, loss 0.34, on n1 (3 s ago)"."""
        if self.beat is None:
            return f"in {self.engine}'s queue as {self.ticket}"
        total = "" if self.beat.total is None else f"/{self.beat.total}"
        parts = [f"{self.beat.stage} step {self.beat.step}{total}"]
        parts += [f"loss {self.beat.loss:.3g}"] if self.beat.loss is not None else []
        parts += [f"on {self.beat.node}"] if self.beat.node else []
        return f"{', '.join(parts)} ({self.age:.0f} s ago)"


def activities(store: Store) -> dict[str, Activity]:
    """Cell id -> what is going on with it; of others nothing is known to go on."""
    found: dict[str, Activity] = {}
    for name, (engine, cells) in noted(store).items():
        found |= dict.fromkeys(cells, Activity(ticket=name, engine=engine))
    now = time.time()
    for cell_id in os.listdir(store.work) if store.work.is_dir() else []:
        file = _heartbeat(store, cell_id)
        if file is not None and (beat := Beat.read(file)) is not None and _may_live(beat):
            found[cell_id] = Activity(beat, max(0.0, now - _time(file)))
    return found


def beat_of(store: Store, cell_id: str) -> Beat | None:
    """The last heartbeat of a cell."""
    file = _heartbeat(store, cell_id)
    return None if file is None else Beat.read(file)


def _heartbeat(store: Store, cell_id: str) -> Path | None:
    """Of the newest attempt that has resume state."""
    folder = store.work / cell_id
    try:
        numbers = [number for name in os.listdir(folder) if (number := number_of(name)) is not None]
    except OSError:
        return None
    return folder / f"attempt-{max(numbers)}" / "heartbeat.json" if numbers else None


def _may_live(beat: Beat) -> bool:
    """Of a process on this machine it can be told whether it lives."""
    if beat.node != platform.node() or not beat.pid:
        return True
    try:
        os.kill(beat.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:  # one that was killed is there until its parent has looked, and in a container that may be never
        return Path(f"/proc/{beat.pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return True


def _time(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
