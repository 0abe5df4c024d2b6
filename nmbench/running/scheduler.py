"""Runs cells, each in a worker process of its own session, and turns every ending into a record.

The scheduler imports no task and no torch. It watches heartbeats, enforces time limits, ends whole process groups,
and writes the record of a worker that died. A signal or a killed parent loses nothing that was finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nmbench._util.files import write_json
from nmbench._util.machine import describe, gpus
from nmbench.plan.catalogue import Plugin, source_hash
from nmbench.plan.cell import Cell
from nmbench.records.schema import SCHEMA_VERSION, Record, UnreadableRecord
from nmbench.records.store import Store, read_record

__all__ = ["Options", "Progress", "Scheduler", "code_hash"]

_GRACE = 4.0  # seconds between asking a worker to stop and killing its process group
#: endings after which the resume state is worth keeping: the same training may still succeed
_RESUMABLE = {"interrupted", "crash", "timeout", "hang", "oom"}


@dataclass
class Options:
    """How to run. workers 0: as many as fit the machine; device "auto", "cpu" or "cuda"."""

    workers: int = 0
    device: str = "auto"
    timeout: float | None = None
    hang: float = 1800.0
    data: Path = Path("data")
    trace: bool = False
    command: str = ""  # what reproduces a cell: f"{command} --only {id}"
    alone: frozenset[str] = frozenset()  # ids of cells that run with nothing beside them
    starts_dense: frozenset[str] = frozenset()  # methods whose first pass may be taken from the dense twin


class Progress(Protocol):
    """Shows what is going on."""

    def begin(self, total: int, workers: int, threads: int) -> None:
        """Cells will run."""

    def started(self, cell: Cell) -> None:
        """A worker took the cell."""

    def beat(self, cell: Cell, heartbeat: dict[str, Any]) -> None:
        """What the worker said last: stage, step, total, loss."""

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """The cell has a record."""

    def close(self) -> None:
        """No more cells."""


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    attempt: Path
    work: Path
    head: Record
    slots: list[int]  # taken from the others meanwhile; more than it uses, if it is to be alone
    begun: float = field(default_factory=time.monotonic)
    last_beat: float = field(default_factory=time.monotonic)
    seen: float = 0.0
    killed_for: str = ""
    message: str = ""


def code_hash(plugin: Plugin) -> str:
    """Hash of nmbench's sources and of the plugin's: results of another hash are stale."""
    return f"{source_hash('nmbench')}-{plugin.source}"


class Scheduler:
    """Runs a list of cells of one store."""

    def __init__(self, store: Store, plugins: dict[str, Plugin], options: Options, progress: Progress) -> None:
        self.store = store
        self.plugins = plugins
        self.options = options
        self.progress = progress
        found = gpus() if options.device in ("auto", "cuda") else []
        self.gpus = [gpu["index"] for gpu in found]
        self.device = "cuda" if options.device == "cuda" or self.gpus else "cpu"
        self._running: dict[int, _Running] = {}
        self._sources: dict[str, str] = {}
        self._asked_to_stop = False

    def _plan(self, count: int) -> tuple[int, int]:
        """(workers, threads of each) for `count` ranks in all: one a GPU, or on the CPU all cores shared out."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        default = len(self.gpus) or 1 if self.device == "cuda" else cores
        workers = max(1, min(self.options.workers or default, count))
        return workers, max(1, cores // workers)

    # -- the loop -----------------------------------------------------------------------------------------------
    def run(self, cells: list[Cell]) -> list[Record]:
        """Run all cells; their records.

        SIGINT and SIGTERM end the workers, write their records and raise KeyboardInterrupt. They are noted and acted
        on between two looks, since an exception in the middle of a start could lose a worker from sight.
        """
        before = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._loop(cells)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self._asked_to_stop = True

    def _loop(self, cells: list[Cell]) -> list[Record]:
        workers, threads = self._plan(sum(map(self._ranks, cells)))
        # those that need the machine to themselves go first: dense twins are among them, and others wait for these
        waiting = deque(sorted(cells, key=lambda cell: cell.id not in self.options.alone))
        free = list(range(workers))
        records: list[Record] = []
        self.progress.begin(len(cells), workers, threads)
        try:
            while waiting or self._running:
                if self._asked_to_stop:
                    self._stop_all()
                    raise KeyboardInterrupt
                while free and (cell := self._next(waiting)) is not None:
                    if (refused := self._refusal(cell)) is not None:
                        waiting.remove(cell)
                        records.append(refused)
                        continue
                    wanted = min(self._ranks(cell), workers)
                    taken = workers if cell.id in self.options.alone else wanted
                    if len(free) < taken:
                        break  # a cell of several ranks waits for its turn rather than being overtaken for ever
                    slots, free = sorted(free)[:taken], sorted(free)[taken:]
                    waiting.remove(cell)
                    self._running[slots[0]] = self._start(cell, slots, wanted, threads, taken == workers)
                    self.progress.started(cell)
                for slot in list(self._running):
                    record = self._look(self._running[slot])
                    if record is not None:
                        records.append(record)
                        free += self._running.pop(slot).slots
                time.sleep(0.05)
        finally:
            self.progress.close()
        return records

    def _next(self, waiting: deque[Cell]) -> Cell | None:
        """The first cell that may start: one that takes over its dense twin's training waits for the twin."""
        busy = {running.cell.id for running in self._running.values()} | {cell.id for cell in waiting}
        for cell in waiting:
            if cell.method not in self.options.starts_dense or cell.twin.id not in busy:
                return cell
        return None

    def _first_phase(self, cell: Cell, code: str) -> dict[str, str] | None:
        """Folder of the dense twin's attempt, if it ended well with the same code and left its weights."""
        if cell.method not in self.options.starts_dense:
            return None
        state = self.store.state(cell.twin)
        if not state.done or state.record is None or state.path is None:
            return None
        same = state.record.get("environment", {}).get("code") == code
        whole = (state.path / "weights.safetensors").is_file()
        return {"attempt_dir": str(state.path.absolute())} if same and whole else None

    # -- starting -----------------------------------------------------------------------------------------------
    def _head(self, cell: Cell, number: int) -> Record:
        plugin = self.plugins[cell.task]
        return {
            "schema_version": SCHEMA_VERSION,
            "matrix": self.store.matrix,
            "cell": cell.to_dict(),
            "cell_id": cell.id,
            "attempt": number,
            "plugin": {
                "distribution": plugin.distribution,
                "version": plugin.version,
                "contract": plugin.declaration.get("contract"),
            },
            "metric_info": plugin.declaration.get("metrics", []),
            "command": f"{self.options.command} --only {cell.id}",
        }

    def _refusal(self, cell: Cell) -> Record | None:
        """A cell whose plugin cannot be used gets its record at once."""
        plugin = self.plugins[cell.task]
        if plugin.status == "ok":
            return None
        number, attempt = self.store.new_attempt(cell)
        status = {"unavailable": "skipped", "import": "import"}.get(plugin.status, "invalid")
        record = self._head(cell, number) | {"status": status}
        record["error"] = {"kind": plugin.status, "message": plugin.reason, "traceback": None}
        record["environment"] = describe(1, code_hash(plugin), self.device)
        write_json(attempt / "record.json", record)
        self.progress.ended(cell, record, 0.0)
        return record

    def _ranks(self, cell: Cell) -> int:
        """Processes that train the cell together: its setting `gpus`, where the task has one."""
        if cell.task not in self.plugins:
            return 1
        settings = {**self.plugins[cell.task].declaration.get("scales", {}).get(cell.scale, {}), **cell.train}
        value = settings.get("gpus", 1)
        return max(1, value) if isinstance(value, int) else 1

    def _visible(self, slots: list[int], ranks: int) -> str:
        """CUDA_VISIBLE_DEVICES: one GPU a slot; all of them where several ranks share fewer slots than they are."""
        if ranks > len(slots) or len({slot % len(self.gpus) for slot in slots}) < len(slots):
            return ",".join(self.gpus[:ranks])
        return ",".join(self.gpus[slot % len(self.gpus)] for slot in slots)

    def _start(self, cell: Cell, slots: list[int], used: int, threads: int, alone: bool) -> _Running:
        plugin, ranks = self.plugins[cell.task], self._ranks(cell)
        threads = max(1, threads * used // ranks)
        number, attempt = self.store.new_attempt(cell)
        head = self._head(cell, number)
        if cell.task not in self._sources:
            self._sources[cell.task] = code_hash(plugin)
        work = self.store.work_dir(cell)
        if _code_of(work) != self._sources[cell.task]:
            _remove(work)  # half of a training by other code is not gone on with
            work = self.store.work_dir(cell)
        (work / "heartbeat.json").unlink(missing_ok=True)
        job = {
            "head": head,
            "cell": cell.to_dict(),
            "init": str(cell.init.path) if cell.init else None,
            "reference": plugin.reference,
            "attempt_dir": str(attempt.absolute()),
            "work_dir": str(work),
            "data_dir": str(self.options.data.absolute()),
            "device": self.device,
            "threads": threads,
            "ranks": ranks,
            "alone": alone,
            "first_phase": self._first_phase(cell, self._sources[cell.task]),
            "code": self._sources[cell.task],
            "trace": self.options.trace,
            "parent": os.getpid(),
        }
        write_json(work / "job.json", job)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        environment["CUDA_VISIBLE_DEVICES"] = self._visible(slots[:used], ranks) if self.gpus else ""
        with (attempt / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nmbench.worker", "--job", str(work / "job.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return _Running(cell, process, attempt, work, head, slots)

    # -- watching -----------------------------------------------------------------------------------------------
    def _look(self, running: _Running) -> Record | None:
        """The cell's record if its worker has ended, else None (after enforcing the limits)."""
        if running.process.poll() is not None:
            return self._collect(running)
        now = time.monotonic()
        beat = running.work / "heartbeat.json"
        try:
            stamp = beat.stat().st_mtime_ns / 1e9
            if stamp != running.seen:
                running.seen, running.last_beat = stamp, now
                self.progress.beat(running.cell, json.loads(beat.read_text()))
        except (OSError, ValueError):
            pass
        limit = self.options.timeout
        if limit is not None and now - running.begun > limit:
            self._kill(running, "timeout", f"it took more than {limit:g} s")
        elif now - running.last_beat > self.options.hang:
            self._kill(running, "hang", f"no sign of life for {self.options.hang:g} s")
        return None

    def _kill(self, running: _Running, kind: str, message: str) -> None:
        running.killed_for, running.message = kind, message
        _signal_group(running.process, signal.SIGKILL)
        running.process.wait()

    def _collect(self, running: _Running) -> Record:
        """Read the worker's record, or write one for it."""
        _signal_group(running.process, signal.SIGKILL)  # ranks or loaders that outlived the worker
        path = running.attempt / "record.json"
        try:
            record = read_record(path)
        except UnreadableRecord:
            record = self._record_for_the_dead(running)
            write_json(path, record)
        if record["status"] not in _RESUMABLE:
            _remove(running.work)
        self.progress.ended(running.cell, record, time.monotonic() - running.begun)
        return record

    def _record_for_the_dead(self, running: _Running) -> Record:
        code = running.process.returncode
        kind, message = running.killed_for or "crash", running.message
        if not message:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code} and no record"
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            last = _last_line(running.attempt / "worker.log")
            message = f"the worker process {how}{hint}" + (f"; it last printed: {last}" if last else "")
        record = running.head | {"status": kind}
        record["error"] = {"kind": kind, "message": message, "traceback": None}
        seconds = round(time.monotonic() - running.begun, 3)
        record["timings"] = {"total_s": seconds, "alone": False}
        record["environment"] = describe(1, self._sources[running.cell.task], self.device)
        return record

    def _stop_all(self) -> None:
        """Ctrl-C: ask all workers to stop, give them a few seconds, kill the rest, record them all."""
        for running in self._running.values():
            running.killed_for, running.message = "interrupted", "stopped by Ctrl-C"
            _signal_group(running.process, signal.SIGTERM)
        end = time.monotonic() + _GRACE
        for running in self._running.values():
            try:
                running.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(running.process, signal.SIGKILL)
                running.process.wait()
            self._collect(running)
        self._running.clear()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:200] if lines else ""


def _code_of(work: Path) -> str | None:
    """Hash of the code that left the resume state in `work`."""
    try:
        code = json.loads((work / "job.json").read_text())["code"]
    except (OSError, ValueError, KeyError):
        return None
    return str(code)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
