"""Headlines of records, kept between commands: to read ten thousand records again takes a second and 370 MB.

A headline is believed where the file system says of its file what it said before: inode, size, and the times of the
last change of its content and of the file itself, the second of which no program sets on a local disk. For what shows a
line about each cell: what runs, and what a result is, is read from the records.
"""

import hashlib
import os
import stat
import time
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

import nmbench
from nmbench._util.files import remember, remembered
from nmbench._util.paths import cache_dir
from nmbench.records.attempt import read_record
from nmbench.records.reading import headline
from nmbench.records.schema import SCHEMA_VERSION, Status


class Headline(NamedTuple):
    """Of a record: what a line about its cell needs."""

    cell_id: str
    status: Status
    outcome: str


#: what the file system says of a file
_Mark = tuple[int, int, int, int]
_Kept = dict[str, tuple[_Mark, Headline]]
_KEPT: TypeAdapter[_Kept] = TypeAdapter(_Kept)
_MOST = 200_000


class Headlines:
    """Of the records below a folder. settled_s: how long a file must have been left alone, as clocks are coarse."""

    def __init__(self, folder: Path, settled_s: float = 2.0) -> None:
        self._settled_s, self._before = settled_s, f"{folder}{os.sep}"
        # another version may tell something else of a record
        about = (nmbench.__version__, str(SCHEMA_VERSION), os.path.abspath(folder))
        name = hashlib.sha256("\0".join(about).encode(errors="surrogateescape")).hexdigest()[:16]
        self._path = cache_dir() / "headlines" / f"{name}.json"
        self._grown = False

    @cached_property
    def _held(self) -> _Kept:
        try:
            return _KEPT.validate_json(remembered(self._path) or b"{}")
        except ValidationError:
            return {}

    def of(self, file: Path) -> Headline:
        """The headline of the record in `file`. Raises UnreadableRecord."""
        key, mark = str(file).removeprefix(self._before), self._mark(file)
        held = self._held.get(key)
        if held is not None and held[0] == mark:
            return held[1]
        record = read_record(file, headline)
        told = Headline(record.cell_id, record.status, record.outcome)
        if mark is not None and not record.problems:
            if len(self._held) >= _MOST:
                self._held.clear()
            self._held[key] = mark, told
            self._grown = True
        return told

    def _mark(self, file: Path) -> _Mark | None:
        """None where there is no regular file that has settled."""
        try:
            about = os.stat(file)
        except OSError:
            return None
        settled = max(about.st_ctime, about.st_mtime) < time.time() - self._settled_s
        regular = stat.S_ISREG(about.st_mode)
        return (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns) if settled and regular else None

    def keep(self) -> None:
        """Write what is new; where it cannot be, the next command reads the records again."""
        if self._grown:
            remember(self._path, _KEPT.dump_json(self._held, ensure_ascii=True))
            self._grown = False
