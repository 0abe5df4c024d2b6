"""Records of cells that wrote none themselves: refused before they began, or dead."""

import errno
import os
import signal

from nmbench._util.machine import describe
from nmbench.plan.declarations import PluginStatus, TaskPlugin
from nmbench.records.schema import Environment, Failure, Record, Status, Timings
from nmbench.running.executor import Cause, Ending
from nmbench.running.job import NO_ROOM, OVERTAKEN
from nmbench.running.stops import Stop, reason

_REFUSED = {PluginStatus.UNAVAILABLE: Status.SKIPPED, PluginStatus.IMPORT: Status.IMPORT}
_DIED = {Cause.TIMEOUT: Status.TIMEOUT, Cause.HANG: Status.HANG, Cause.STOPPED: Status.INTERRUPTED}
_OVERTAKEN = "another run took the cell over"


def refused(record: Record, plugin: TaskPlugin, code: str, device: str) -> Record:
    """The cell of `record` was not tried."""
    status = _REFUSED.get(plugin.status, Status.INVALID)
    return _failed(record, status, plugin.status, plugin.reason, Environment(**describe(1, code, device)))


def died(record: Record, ending: Ending, code: str, device: str) -> Record:
    """The attempt of `record` left no record of its own."""
    status = _DIED.get(ending.cause, Status.CRASH)
    kind: str = _stop(ending) if ending.cause is Cause.STOPPED else status
    if ending.cause is Cause.EXIT and ending.number == OVERTAKEN:
        return overtaken(record)
    timings = Timings(total_s=round(ending.seconds, 3), alone=False)
    environment = Environment(**describe(1, code, device))
    return _failed(record, status, kind, _words(ending), environment, timings=timings)


def overtaken(record: Record) -> Record:
    """Another attempt has the cell's resume state."""
    return _failed(record, Status.INTERRUPTED, "overtaken", _OVERTAKEN)


def other_code(record: Record, here: str, expected: str) -> Record:
    """The code of this machine is not that of the one which asked for the cell."""
    message = f"the code on this machine is {here}, and {expected} where the cell was submitted: use one environment"
    return _failed(record, Status.INVALID, "code", message)


def lost(record: Record, status: Status, message: str) -> Record:
    """The job of the attempt of `record` is gone without a record. What machine it was on, nobody here knows."""
    return _failed(record, status, "lost", message)


def _stop(ending: Ending) -> Stop:
    return reason(int(ending.number) or signal.SIGINT)


def unwritten(record: Record, error: OSError) -> Record:
    """What became of the attempt is not on the disk."""
    where = f" ({error.filename})" if error.filename else ""
    return _failed(record, Status.ERROR, type(error).__name__, f"{error.strerror or error}{where}")


def _failed(
    record: Record, status: Status, kind: str, message: str, environment: Environment | None = None, **more: Timings
) -> Record:
    failure = Failure(kind=str(kind), message=message, traceback=None)
    return record.model_copy(update={"status": status, "error": failure, "environment": environment, **more})


def _words(ending: Ending) -> str:
    match ending.cause:
        case Cause.TIMEOUT:
            return f"it took more than {ending.number:g} s"
        case Cause.HANG:
            return f"no sign of life for {ending.number:g} s"
        case Cause.STOPPED:
            return _stop(ending).words
        case Cause.SIGNAL:
            hint = " (out of memory?)" if ending.number == signal.SIGKILL else ""
            how = f"was killed by signal {ending.number:g}{hint}"
        case Cause.EXIT if ending.number == NO_ROOM:
            return f"{os.strerror(errno.ENOSPC)}: the worker process could not write its record"
        case Cause.EXIT:
            how = f"ended with exit status {ending.number:g} and no record"
    return f"the worker process {how}" + (f"; it last printed: {ending.last_line}" if ending.last_line else "")
