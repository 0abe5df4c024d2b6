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

from pydantic import TypeAdapter, ValidationError

import nmbench
from nmbench._util.files import write_text
from nmbench._util.paths import cache_dir
from nmbench.records.attempt import content, read_record
from nmbench.records.reading import TOLD, headline
from nmbench.records.schema import SCHEMA_VERSION, Record, UnreadableRecord

#: what the file system says of a file
_Mark = tuple[int, int, int, int]
#: with the headline's JSON, as text: it is read when it is asked for, and what is nested in it cannot break the rest
_Kept = dict[str, tuple[_Mark, str]]
_KEPT: TypeAdapter[_Kept] = TypeAdapter(_Kept)
_MOST = 200_000


class Headlines:
    """Of the records below a folder. settled_s: how long a file must have been left alone, as clocks are coarse."""

    def __init__(self, folder: Path, settled_s: float = 2.0) -> None:
        self._settled_s, self._before = settled_s, f"{folder}{os.sep}"
        # what another version kept may tell less, or otherwise
        about = (nmbench.__version__, str(SCHEMA_VERSION), *sorted(TOLD), os.path.abspath(folder))
        name = hashlib.sha256("\0".join(about).encode(errors="surrogateescape")).hexdigest()[:16]
        self._path = cache_dir() / "headlines" / f"{name}.json"
        self._grown = False

    @cached_property
    def _held(self) -> _Kept:
        try:
            checksum, _, data = content(self._path).partition(b"\n")
            if checksum.decode() == hashlib.sha256(data).hexdigest():
                return _KEPT.validate_json(data)
        except (OSError, UnreadableRecord, ValidationError, UnicodeDecodeError):
            pass
        return {}

    def of(self, file: Path) -> Record:
        """The headline of the record in `file`. Raises UnreadableRecord."""
        key, mark = str(file).removeprefix(self._before), self._mark(file)
        held = self._held.get(key)
        if held is not None and held[0] == mark:
            try:
                return Record.model_validate_json(held[1])
            except ValidationError:  # nested more deeply than is read
                pass
        record = read_record(file, headline)
        if mark is not None and not record.problems:
            self._add(key, mark, record)
        return record

    def _add(self, key: str, mark: _Mark, record: Record) -> None:
        try:
            text = record.model_dump_json(exclude_unset=True, include=set(TOLD))
        except ValueError:  # nested more deeply than is written
            return
        if len(self._held) >= _MOST:
            self._held.clear()
        self._held[key] = mark, text
        self._grown = True

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
        if not self._grown:
            return
        data = _KEPT.dump_json(self._held, ensure_ascii=True)
        self._grown = False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, f"{hashlib.sha256(data).hexdigest()}\n{data.decode()}")
        except OSError:
            pass
