"""A full disk costs no cell: `Room` tells a run to wait until there is room again, and where."""

import errno
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from nmbench.records.schema import Record, Status

#: bytes; where as much is free, whoever found no room wrote elsewhere
_LOW = 2**30
#: bytes that have to be freed before the next try
_MORE = 2**14
#: seconds until what there is is tried, the first time and at most
_FIRST_S, _MOST_S = 15.0, 600.0
_NO_ROOM = re.compile(
    rf"Errno ({errno.ENOSPC}|{errno.EDQUOT})\b|os error {errno.ENOSPC}\b|No space left on device|Disk quota exceeded"
)


def lacked_room(outcome: Record | OSError) -> bool:
    """Did it end so for lack of room? A worker that cannot write its record says so with its last words."""
    if isinstance(outcome, OSError):
        return outcome.errno in (errno.ENOSPC, errno.EDQUOT)
    message = (outcome.error and outcome.error.message) or ""
    return outcome.status in (Status.ERROR, Status.CRASH) and _NO_ROOM.search(message) is not None


class Room:
    """The disks that cells write to.

    folders: on them; those above stand for what is not there yet.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._full: Path | None = None
        self._wanted = 0
        self._again, self._pause_s = 0.0, _FIRST_S / 2

    def lacked(self) -> bool:
        """A cell found none: is a disk that full? Then there has to be more of it than now.

        Or some may have been made in the meantime: what there is is tried again after a while, ever more rarely.
        """
        free, folder = min((_free(folder), str(folder)) for folder in self._folders)
        if free > _LOW:
            return False
        self._full, self._wanted = Path(folder), free + _MORE
        self._pause_s = min(_MOST_S, 2 * self._pause_s)
        self._again = time.monotonic() + self._pause_s
        return True

    def full(self) -> Path | None:
        """The folder whose disk is as full as it was, or None."""
        if self._full is not None:
            free = _free(self._full)
            if free >= self._wanted or (free >= _MORE and time.monotonic() >= self._again):
                self._full = None
        return self._full


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except FileNotFoundError:
        return _free(folder.parent)
    except OSError:  # the disk is away, which it may not be for ever
        return 0
