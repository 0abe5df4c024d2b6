"""Runs cells as processes of this machine, each in a session of its own, and enforces the limits of time.

All that is true of one machine alone stands here: process groups, the parent's process id, GPUs and cores, heartbeats
by their file's time. A killed parent takes its workers along; whole process groups are ended, loaders and ranks too.
"""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nmbench._util.files import discard
from nmbench._util.machine import cores, gpus
from nmbench.records.attempt import LOG, RECORD
from nmbench.running.executor import Cause, Ending, Fate
from nmbench.running.guard import Guard
from nmbench.running.job import Beat, TrainingJob

_log = logging.getLogger("nmbench.running")

_GRACE = 4.0  # seconds between asking a worker to stop and killing its process group
_LINGER = 20.0  # seconds that a worker may live on after its record
_LOG_TAIL = 64 * 1024  # bytes of worker.log that are read for its last line
#: of Slurm's variables those that are about the job as a whole
_OF_THE_JOB = frozenset(
    ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOB_END_TIME", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES")
)
_LOG_MOST = 2**26  # bytes of worker.log; beyond, its newer half goes


@dataclass(frozen=True)
class Limits:
    """Seconds that a cell may take, and that it may give no sign of life."""

    timeout: float | None = None
    hang: float = 1800.0


@dataclass
class _Worker:
    job: TrainingJob
    process: subprocess.Popen[bytes]
    slots: list[int]
    pidfd: int | None
    begun: float = field(default_factory=time.monotonic)
    last_beat: float = field(default_factory=time.monotonic)
    stamp: int = 0  # time of the heartbeat file that was read last
    recorded: float | None = None  # since when there is a record
    cause: Cause | None = None  # why it was killed
    limit: float = 0.0

    def beat(self) -> Beat | None:
        """The heartbeat, if it is a new one."""
        path = self.job.work_dir / "heartbeat.json"
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return None
        if stamp == self.stamp:
            return None
        self.stamp, self.last_beat = stamp, time.monotonic()
        return Beat.read(path)

    def bound_log(self) -> None:
        """Cut a log that a flood has made long: what it began with stays, and what is printed next."""
        log = self.job.attempt_dir / LOG
        with contextlib.suppress(OSError):
            if log.stat().st_size > _LOG_MOST:
                os.truncate(log, _LOG_MOST // 2)

    def signal(self, number: int) -> None:
        """To the whole group: ranks, loaders, compilers."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self, cause: Cause | None = None, limit: float = 0.0) -> None:
        self.cause, self.limit = cause or self.cause, limit
        self.signal(signal.SIGKILL)
        self.process.wait()

    def ending(self) -> Ending:
        code, seconds = self.process.returncode, time.monotonic() - self.begun
        line = _last_line(self.job.attempt_dir / LOG)
        self.bound_log()
        if self.cause is not None:
            return Ending(self.cause, self.limit, seconds, line)
        return Ending(Cause.SIGNAL if code < 0 else Cause.EXIT, abs(code), seconds, line)


class Local:
    """The executor for this machine.

    workers 0: as many as fit: one a GPU, or on the CPU one a core. device "auto": GPUs where there are any.
    cpus 0: all cores that this process was given. exclusive: nothing else runs on this machine, as far as is known.
    """

    def __init__(
        self,
        workers: int = 0,
        device: str = "auto",
        limits: Limits | None = None,
        cpus: int = 0,
        exclusive: bool = True,
    ) -> None:
        self._gpus = [gpu["index"] for gpu in gpus()] if device in ("auto", "cuda") else []
        self.device: Literal["cpu", "cuda"] = "cuda" if device == "cuda" or self._gpus else "cpu"
        self.threads = 1
        self._limits = limits or Limits()
        self._cores = min(cpus, cores()) if cpus else cores()
        self._exclusive = exclusive
        self._most = workers or (len(self._gpus) or 1 if self.device == "cuda" else self._cores)
        self._slots = self._free = [0]
        self._workers: dict[str, _Worker] = {}
        self._ends = selectors.DefaultSelector()
        self._guard: Guard | None = None
        self._inherited = {name: value for name, value in os.environ.items() if not _of_a_launcher(name)}

    def open(self, processes: int) -> int:
        """See Executor."""
        self._slots = list(range(max(1, min(self._most, processes))))
        self._free = list(self._slots)
        self.threads = max(1, self._cores // len(self._slots))
        self._guard = Guard()
        return len(self._slots)

    def start(self, job: TrainingJob) -> str:
        """See Executor."""
        taken = sorted(self._free)[: job.slots]
        used = min(job.ranks, len(self._slots))  # a cell that is to be alone takes more than it uses
        job = job.model_copy(
            update={
                "parent": os.getpid(),
                "device": self.device,
                "threads": max(1, self.threads * used // job.ranks),
                "alone": self._exclusive and len(taken) == len(self._slots),
            }
        )
        file = job.work_dir / "job.json"
        for path in (job.work_dir / "heartbeat.json", file):
            discard(path)
        # read once, by the worker that starts now: not synced; exclude_unset: what a record has not stays absent
        file.write_text(job.model_dump_json(indent=1, exclude_unset=True), encoding="utf-8")
        with (job.attempt_dir / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nmbench.worker", "--job", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(job, taken[:used]),
                start_new_session=True,
            )
        if self._guard is not None:
            self._guard.add(process.pid)
        handle = str(process.pid)
        self._free = [slot for slot in self._free if slot not in taken]
        self._workers[handle] = _Worker(job, process, taken, self._watch(process.pid))
        return handle

    def _environment(self, job: TrainingJob, slots: list[int]) -> dict[str, str]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(job.threads))
        return {
            **self._inherited,
            **threads,
            "PYTHONUNBUFFERED": "1",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "TORCHINDUCTOR_DETERMINISTIC": "1",  # here rather than in the worker, which need not import inductor
            "CUDA_VISIBLE_DEVICES": self._visible(slots, job.ranks) if self._gpus else "",
        }

    def _visible(self, slots: list[int], ranks: int) -> str:
        """One GPU a slot; all of them where several ranks share fewer slots than they are."""
        if ranks > len(slots) or len({slot % len(self._gpus) for slot in slots}) < len(slots):
            return ",".join(self._gpus[:ranks])
        return ",".join(self._gpus[slot % len(self._gpus)] for slot in slots)

    # -- watching -----------------------------------------------------------------------------------------------
    def _watch(self, pid: int) -> int | None:
        if not hasattr(os, "pidfd_open"):
            return None
        pidfd = os.pidfd_open(pid)
        self._ends.register(pidfd, selectors.EVENT_READ)
        return pidfd

    def poll(self, handles: Collection[str], wait_s: float) -> dict[str, Fate]:
        """See Executor. Enforces the limits."""
        if not handles:
            return {}
        if any(self._workers[handle].pidfd is None for handle in handles):
            time.sleep(min(wait_s, 0.05))
        else:
            self._ends.select(wait_s)
        return {handle: self._fate(handle) for handle in handles}

    def _fate(self, handle: str) -> Fate:
        worker = self._workers[handle]
        beat = worker.beat()
        worker.bound_log()
        if worker.process.poll() is None:
            self._enforce(worker)
        return Fate(beat, None if worker.process.poll() is None else self._forget(handle))

    def _enforce(self, worker: _Worker) -> None:
        now, limits = time.monotonic(), self._limits
        if worker.recorded is None and (worker.job.attempt_dir / RECORD).exists():
            worker.recorded = now
        if worker.recorded is not None:
            if now - worker.recorded > _LINGER:
                _log.warning("%s wrote its record but did not end; it was killed", worker.job.cell.label)
                worker.kill()
        elif limits.timeout is not None and now - worker.begun > limits.timeout:
            worker.kill(Cause.TIMEOUT, limits.timeout)
        elif now - worker.last_beat > limits.hang:
            worker.kill(Cause.HANG, limits.hang)

    def _forget(self, handle: str) -> Ending:
        worker = self._workers.pop(handle)
        worker.signal(signal.SIGKILL)  # what outlived the worker
        if self._guard is not None:
            self._guard.remove(worker.process.pid)
        if worker.pidfd is not None:
            self._ends.unregister(worker.pidfd)
            os.close(worker.pidfd)
        self._free += worker.slots
        return worker.ending()

    def stop(self, handles: Collection[str], number: int) -> None:
        """See Executor."""
        workers = [self._workers[handle] for handle in handles]
        for worker in workers:
            worker.cause, worker.limit = Cause.STOPPED, number
            worker.signal(number)
        end = time.monotonic() + _GRACE
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, end - time.monotonic()))
            worker.kill(limit=number)

    def close(self) -> None:
        """See Executor."""
        self._ends.close()
        if self._guard is not None:
            self._guard.close()


def _of_a_launcher(name: str) -> bool:
    """Does it tell a process its place among those of a job step? Engines believe it, and a worker has none."""
    launched = name.startswith(("SLURM_", "PMI_", "PMI2_", "PMIX_", "OMPI_COMM_"))
    return launched and name not in _OF_THE_JOB


def _last_line(path: Path) -> str:
    """The last line that is not empty, at most 200 characters of it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL))
            lines = file.read(_LOG_TAIL).decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:200] if lines else ""
