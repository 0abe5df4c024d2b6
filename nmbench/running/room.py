"""A full disk costs no cell: `Room` tells a run to wait until there is room again, and where."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from nmbench.records.schema import Record, Status

__all__ = ["Room", "lacked_room"]

#: bytes; where as much is free, whoever found no room wrote elsewhere
_LOW = 2**30
#: bytes that have to be freed before the next try
_MORE = 2**14
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

    def lacked(self) -> bool:
        """A cell found none: is a disk that full? Then there has to be more of it than now."""
        free, folder = min((_free(folder), str(folder)) for folder in self._folders)
        if free > _LOW:
            return False
        self._full, self._wanted = Path(folder), free + _MORE
        return True

    def full(self) -> Path | None:
        """The folder whose disk is as full as it was, or None."""
        if self._full is not None and _free(self._full) >= self._wanted:
            self._full = None
        return self._full


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except FileNotFoundError:
        return _free(folder.parent)
    except OSError:  # the disk is away, which it may not be for ever
        return 0
