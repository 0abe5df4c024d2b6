"""One cell trained by several processes: the worker is rank 0 and starts the others.

Every rank prepares, builds, sparsifies and trains; a task's engine finds the usual environment variables (RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), as `torchrun` would set them. After training rank 0 goes on alone:
it evaluates and writes the record. A rank that fails ends them all, with its error in the record: rank 0 may wait for
it in a collective, where no Python exception can reach it.

In a Slurm job of several nodes the ranks are spread over them in blocks; srun starts those of the other nodes, and ends
them when it is ended.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from nmbench._util.files import write_text
from nmbench._util.machine import job_nodes
from nmbench.contract.spec import SkipCell
from nmbench.records.schema import Status

#: seconds in which rank 0 may meet the same error by itself, and say it first
_GRACE = 5.0
_PLACE = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
_VARIABLES = (*_PLACE, "MASTER_ADDR", "MASTER_PORT")


class RankFailure(BaseModel):
    """time: of time.time; 0 where the rank died before anyone noticed."""

    status: Status
    message: str
    time: float = 0.0

    def write(self, work: Path, rank: int) -> None:
        """Leave it for rank 0."""
        write_text(_file(work, rank), self.model_dump_json())

    @classmethod
    def read(cls, work: Path, rank: int, code: int | None) -> RankFailure:
        """What the rank left before it ended with exit status `code`; or how it ended, where it left nothing."""
        try:
            failure = cls.model_validate_json(_file(work, rank).read_bytes())
            return failure.model_copy(update={"message": f"rank {rank}: {failure.message}"})
        except (OSError, ValidationError):
            how = f"was killed by signal {-code}" if code and code < 0 else f"ended with exit status {code}"
            return cls(status=Status.CRASH, message=f"rank {rank} {how}; see worker.log")


def _file(work: Path, rank: int) -> Path:
    return work / f"rank-{rank}.json"


Fail = Callable[[RankFailure], None]


@dataclass
class Ranks:
    """`rank` of `size`, `local` of `local_size` on this machine; `others` are the processes that rank 0 started."""

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1
    work: Path = Path()
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def failed_before(self, moment: float) -> RankFailure | None:
        """That of the first other rank that failed before `moment` (of time.time), if one did.

        What rank 0 meets then is only that the other one is gone ("connection closed by peer").
        """
        time.sleep(0.5 if self.others else 0.0)  # a process that closed its sockets may not have ended quite yet
        codes = {rank: process.poll() for rank, process in enumerate(self.others, start=1)}
        # one that ended in the middle of training failed, with whatever exit status
        failed = [(rank, code) for rank, code in codes.items() if code is not None or _file(self.work, rank).exists()]
        failures = [RankFailure.read(self.work, rank, code) for rank, code in failed]
        first = min(failures, default=None, key=lambda failure: failure.time)
        return first if first and first.time < moment else None

    def part(self) -> None:
        """Training is over: leave the process group together; rank 0 waits for the others to end.

        Raises RuntimeError if one of them failed at the very end.
        """
        if self.size == 1:
            return
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        for name in _VARIABLES:
            os.environ.pop(name, None)
        for process in self.others:
            if code := process.wait():
                raise RuntimeError(f"a rank ended with exit status {code} after training")
        self.others.clear()


def here() -> Ranks:
    """This process' place, read from the environment that `start` gave it."""
    rank, size, local, local_size = (int(os.environ.get(name, default)) for name, default in _PLACE.items())
    return Ranks(rank, size, local, local_size)


def start(size: int, job: Path, work: Path, fail: Fail) -> Ranks:
    """Start ranks 1 to `size` - 1 for the job file `job`, and watch them.

    `fail` is called from a thread when one of them fails: it writes the record and ends the process.
    """
    if size <= 1:
        return Ranks()
    nodes = job_nodes()
    block = math.ceil(size / max(1, len(nodes)))  # ranks on a node
    address = socket.gethostname() if nodes else "127.0.0.1"
    common = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(block)}
    common |= {"MASTER_ADDR": address, "MASTER_PORT": str(_free_port("" if nodes else address))}
    others = []
    for rank in range(1, size):
        place = common | {"RANK": str(rank), "LOCAL_RANK": str(rank % block)}
        others.append(_start(rank, job, work, place, nodes[rank // block] if rank >= block else ""))
    os.environ.update(common, RANK="0", LOCAL_RANK="0")
    ranks = Ranks(0, size, 0, block, work, others)
    threading.Thread(target=_watch, args=(ranks, work, fail), daemon=True, name="nmbench ranks").start()
    return ranks


def _start(rank: int, job: Path, work: Path, place: Mapping[str, str], node: str) -> subprocess.Popen[bytes]:
    """node: another machine of the Slurm job; "" for this one."""
    _file(work, rank).unlink(missing_ok=True)
    command = [sys.executable, "-m", "nmbench.worker", "--rank", str(job), "0" if node else str(os.getpid())]
    if node:
        step = ["srun", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={node}", "--cpu-bind=none", "--quiet"]
        command = step + command
    # in this process' session and with its log, so that the scheduler ends and reads all of them at once
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **place})


def _free_port(address: str) -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _watch(ranks: Ranks, work: Path, fail: Fail) -> None:
    alive = dict(enumerate(ranks.others, start=1))
    while alive:
        for rank, process in list(alive.items()):
            code = process.poll()
            if code is not None:
                del alive[rank]
            if code:
                time.sleep(_GRACE)
                fail(RankFailure.read(work, rank, code))
        time.sleep(0.2)


def device_of(device: str, ranks: Ranks) -> str:
    """Each rank has a GPU of its own. Raises SkipCell if there are fewer than ranks."""
    if device != "cuda" or ranks.size == 1:
        return device
    import torch

    if (count := torch.cuda.device_count()) < ranks.local_size:
        raise SkipCell(f"the setting gpus is {ranks.size}, but {count} can be seen; give train = {{ gpus = {count} }}")
    torch.cuda.set_device(ranks.local)
    return f"cuda:{ranks.local}"
