"""What an exception means for a record: its status, and its message on one line."""

import errno
import re
import traceback
from pathlib import Path

from nmbench._util.errors import message as error_message
from nmbench.contract.run import InvalidResult
from nmbench.contract.spec import DataError, DivergedError, NonFiniteError, SkipCell
from nmbench.records import redact
from nmbench.records.schema import Status

_LONGEST = 2000  # characters of a message in a record
_LONGEST_TRACEBACK = 2**16  # characters; it quotes the message, which may be of any length
_NO_MEMORY = re.compile(
    r"can(no|')t allocate memory|out of memory|can't start new thread|CUBLAS_STATUS_ALLOC_FAILED"
    r"|DataLoader worker .* is killed by signal: Killed",  # by the kernel, when memory is short
    re.IGNORECASE,
)


def kind(error: BaseException) -> Status:
    """The status that stands for an exception."""
    from nmbench.plan.describe import PluginError

    table: list[tuple[Status, tuple[type[BaseException], ...]]] = [
        (Status.INTERRUPTED, (KeyboardInterrupt,)),
        (Status.DATA, (DataError,)),
        (Status.SKIPPED, (SkipCell,)),
        (Status.DIVERGED, (DivergedError,)),
        (Status.NAN, (NonFiniteError,)),
        (Status.INVALID, (InvalidResult,)),
        (Status.IMPORT, (ImportError, PluginError)),
        (Status.OOM, (MemoryError,)),
    ]
    for status, classes in table:
        if isinstance(error, classes):
            return status
    names = {cls.__name__ for cls in type(error).__mro__}  # by name, so that torch need not be imported
    if "NonFiniteWeightError" in names:
        return Status.NAN
    if names & {"NothingSparseError", "AllocationError"}:
        return Status.INVALID
    return Status.OOM if "OutOfMemoryError" in names or _lacks_memory(error) else Status.ERROR


def _lacks_memory(error: BaseException) -> bool:
    """Is it the system, CUDA or a library that found no memory, in words of its own?"""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | OSError) and _NO_MEMORY.search(error_message(error)) is not None


def first_lines(error: BaseException) -> str:
    """The first two lines of its message, joined; with the type before them where the status does not say it."""
    lines = [line for line in error_message(error).strip().splitlines() if line.strip()][:2]
    text = "; ".join(lines)[:_LONGEST] or type(error).__name__
    said = kind(error) in (Status.DATA, Status.SKIPPED, Status.INVALID, Status.NAN, Status.INTERRUPTED)
    return text if said else f"{type(error).__name__}: {text}"


def keep_traceback(file: Path) -> None:
    """Of the exception that is being handled, the last part if it is long; the log has what cannot be kept."""
    try:
        file.write_text(redact.text(traceback.format_exc()[-_LONGEST_TRACEBACK:]), errors="backslashreplace")
    except OSError:
        traceback.print_exc()
