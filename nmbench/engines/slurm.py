"""Slurm by its own commands: sbatch, squeue, scancel. No accounting is needed: squeue remembers a job for minutes.

A ticket's name is the job's, and `--dependency=singleton` lets one job of a name run at a time: that is the lock
between two drivers, kept by Slurm. The command replaces the batch script (`exec`), so that signals reach it.
"""

import getpass
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from nmbench._util.errors import UsageError, nearest
from nmbench.engines.engine import Busy, Fate, Needs, Phase, Ticket, Unreachable
from nmbench.records.schema import Status

_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "SUSPENDED", "STOPPED", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING"}
#: a state in which the job is gone -> what that makes of a cell without a record, and whether to try again
_ENDS = {
    "CANCELLED": (Status.INTERRUPTED, False),
    "OUT_OF_MEMORY": (Status.OOM, False),
    **dict.fromkeys(("TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED"), (Status.INTERRUPTED, True)),
    **dict.fromkeys(("NODE_FAIL", "BOOT_FAIL"), (Status.CRASH, True)),
}
#: exec: the command is the batch process itself. Slurm before 23 does not say when the job's time is up
_SCRIPT = """#!/bin/bash
[ -n "$SLURM_JOB_END_TIME" ] ||
  SLURM_JOB_END_TIME=$(date -d "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)" +%s 2>/dev/null)
export SLURM_JOB_END_TIME
exec {command}
"""
_GPU_OPTIONS = ("gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket")
_AWAY = re.compile(r"contact slurm controller|timed out|connect failure|Connection refused|Zero Bytes|try again", re.I)
_LIMIT = re.compile(r"Max\w*Submit\w*|MaxJobCount|MaxJobs\w*Limit|temporarily unable to accept", re.I)
_OURS = ("job-name", "array", "parsable", "wrap", "test-only", "wait", "output", "error")
#: reasons for which a job waits until somebody does something
_STUCK = re.compile(
    r"[Hh]eld|Hold|^(Partition|QOS|Association)(Time|Node)Limit$|PerJob|QOSMin|NotAllowed|^Invalid|Never|BadConstraints"
)
_MANY = 500  # jobs: beyond, squeue is asked for all of the user's
_MARGIN_S = 120  # before a time limit, for a cell to end by itself
_PATIENCE_S = 120.0


class Slurm:
    """See Engine. options: of sbatch, by their long names."""

    name = "slurm"
    chains = True

    def __init__(self, options: Mapping[str, str]) -> None:
        if missing := [tool for tool in ("sbatch", "squeue", "scancel") if shutil.which(tool) is None]:
            raise UsageError(f"--on slurm: there is no {missing[0]} on PATH; run this where jobs are submitted")
        for key in options:
            if key in _OURS:
                raise UsageError(f"--engine {key}: nmbench sets it, to find its jobs and their logs again")
            if (known := _sbatch_options()) and key not in known:
                raise UsageError(f"--engine {key}: sbatch has no such option{nearest(key, known)}")
        self._options = dict(options)
        self.accelerated = any("gpu" in f"{key}={self._options[key]}" for key in _GPU_OPTIONS if key in self._options)

    def check(self, needs: Needs) -> None:
        """See Engine. sbatch tries it without submitting."""
        limit = self._options.get("time")
        if limit is not None and needs.minutes is not None and 0 < minutes_of(limit) < needs.minutes:
            raise UsageError(f"--engine time={limit}: a cell may take {needs.minutes} min (the matrix' timeout)")
        try:
            trial = Ticket("nm-trial", (), Path.cwd(), Path("/dev/null"), needs)
            _ask("sbatch", "--test-only", *self._flags(trial), script="#!/bin/sh\n")
        except (Busy, Unreachable):
            pass
        except UsageError as error:
            if "DOWN" not in str(error):  # nodes that are down come back
                raise

    def submit(self, ticket: Ticket) -> str:
        """See Engine."""
        script = _SCRIPT.format(command=shlex.join(ticket.command))
        return _ask("sbatch", "--parsable", *self._flags(ticket), script=script).strip().partition(";")[0]

    def _flags(self, ticket: Ticket) -> list[str]:
        """The user's options win, but for the dependencies, which join."""
        needs, given = ticket.needs, self._options
        flags = {
            "job-name": ticket.name,
            "chdir": str(ticket.folder),
            "output": str(ticket.log).replace("%", "%%"),
            "open-mode": "append",
            "requeue": "",
            "cpus-per-task": str(needs.cpus),
            "signal": f"B:TERM@{_margin(given.get('time'))}",
        }
        if needs.gpus and not any(key in given for key in _GPU_OPTIONS):
            flags["gres"] = f"gpu:{needs.gpus}"
        if needs.exclusive:
            flags["exclusive"] = ""
        if needs.minutes is not None:
            flags["time"] = str(needs.minutes + 5)  # for imports and data
        if "no-requeue" in given:
            del flags["requeue"]
        flags |= given
        after = ["singleton", *(f"afterany:{handle}" for handle in ticket.after), given.get("dependency")]
        flags["dependency"] = ",".join(filter(None, after))
        return [f"--{key}={value}" if value else f"--{key}" for key, value in flags.items()]

    def fates(self, handles: Collection[str]) -> dict[str, Fate]:
        """See Engine."""
        if not handles:
            return {}
        which = f"--jobs={','.join(handles)}" if len(handles) <= _MANY else f"--user={getpass.getuser()}"
        lines = _ask("squeue", "--noheader", "--states=all", which, "--format=%A|%T|%r").splitlines()
        rows = (line.strip().split("|") for line in lines if line.count("|") == 2)
        found = {job: _fate(job, state, reason) for job, state, reason in rows}
        return {it: found.get(it, Fate(Phase.GONE, message=f"Slurm knows no job {it} any more")) for it in handles}

    def cancel(self, handles: Collection[str]) -> None:
        """See Engine."""
        if handles:
            _ask("scancel", *handles)

    def known(self, prefix: str) -> dict[str, str]:
        """See Engine."""
        lines = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%j|%A").splitlines()
        rows = (line.strip().rpartition("|") for line in lines)
        return {name: job for name, _, job in rows if name.startswith(prefix)}

    def close(self) -> None:
        """See Engine."""


def _fate(job: str, state: str, reason: str) -> Fate:
    if state in _WAITING:
        return Fate(Phase.WAITING, message=reason if _STUCK.search(reason) else "")
    if state in _RUNNING:
        return Fate(Phase.RUNNING)
    status, again = _ENDS.get(state, (Status.CRASH, False))
    why = f" ({reason})" if reason not in ("", "None") else ""
    return Fate(Phase.GONE, status, f"Slurm ended job {job}: {state}{why}", again, state == "CANCELLED")


def _ask(*command: str, script: str | None = None) -> str:
    """What a command of Slurm prints. Raises Busy, Unreachable, or UsageError with its first line."""
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} gave no answer within {_PATIENCE_S:g} s") from None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 0 or "Invalid job id" in done.stderr:
        return done.stdout
    if _LIMIT.search(done.stderr):
        raise Busy(_plain(said))
    if _AWAY.search(done.stderr) or command[0] != "sbatch":  # a question that failed is asked again
        raise Unreachable(f"{command[0]}: {_plain(said)}")
    raise UsageError(f"{command[0]}: {_plain(said)}")


def _plain(lines: list[str]) -> str:
    return "; ".join(re.sub(r"^\w+: (error: )?", "", line) for line in lines[:2]) or "it failed without a word"


@cache
def _sbatch_options() -> frozenset[str]:
    """Long names of sbatch's options, as it lists them itself."""
    done = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    return frozenset(re.findall(r"--([a-z][a-z-]+)", done.stdout))


def minutes_of(limit: str) -> float:
    """A time limit as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S; 0: none. Raises UsageError."""
    if limit.upper() in ("UNLIMITED", "INFINITE"):
        return 0.0
    days, dash, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in [*parts, days if dash else "0"]) or len(parts) > 3:
        raise UsageError(f"--engine time={limit}: write minutes, hours:minutes:seconds or days-hours")
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return 60.0 * (24 * int(days) + hours) + minutes + seconds / 60
    if len(numbers) == 3:
        return 60.0 * numbers[0] + numbers[1] + numbers[2] / 60
    return numbers[0] + (numbers[1] / 60 if len(numbers) == 2 else 0.0)


def _margin(limit: str | None) -> int:
    """Seconds before the end of a job in which a cell is to end by itself; less of a short one."""
    seconds = 60 * minutes_of(limit) if limit else 0.0
    return min(_MARGIN_S, int(seconds / 4)) if seconds else _MARGIN_S
