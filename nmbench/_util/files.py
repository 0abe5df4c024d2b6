"""Files that are written whole or not at all, and locks between processes."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

#: what a shared folder answers that knows no locks (Lustre without -o flock, NFS without a lock service)
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Locked(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """The name under which to write. Afterwards `path` holds all of it; if anything is raised or killed, what it held.

    File and folder are synced to the disk before the context ends. Raises OSError if `path` cannot be a file.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} to")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; name a file in it")
    # process ids are those of one machine, and a folder may be seen by several
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, indent: int | None = 1) -> None:
    """Write JSON, whole or not at all. Raises ValueError for NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def content(path: Path | str) -> bytes:
    """Of a regular file, by the system's own calls: there may be ten thousand. Raises OSError, for a pipe too."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):  # to open a pipe would wait for ever
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    file = os.open(path, os.O_RDONLY)
    try:
        parts = [os.read(file, about.st_size + 1)]
        while parts[-1]:
            parts.append(os.read(file, 1 << 20))
    finally:
        os.close(file)
    return b"".join(parts)


def remembered(path: Path) -> bytes:
    """What `remember` left there; nothing where there is none, or it is damaged."""
    try:
        checksum, _, data = content(path).partition(b"\n")
    except OSError:
        return b""
    return data if checksum == hashlib.sha256(data).hexdigest().encode() else b""


def remember(path: Path, data: bytes) -> None:
    """Leave `data`, of which no byte is outside ASCII, with a checksum; where that cannot be, nothing is left."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{hashlib.sha256(data).hexdigest()}\n{data.decode()}")


def loads(text: bytes | str) -> Any:
    """The value of JSON text. Raises ValueError for all that is none, nesting that Python cannot follow included."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def discard(path: Path) -> None:
    """Remove what is there, a folder with all in it. Raises OSError for a file that stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_below(root: Path, folder: Path) -> None:
    """Remove `folder` and all in it, or nothing if it is not there. Raises ValueError if it is not inside `root`."""
    real = folder.resolve()
    if folder.is_symlink() or root.resolve() not in real.parents:
        raise ValueError(f"{folder} does not lie below {root}")
    shutil.rmtree(real, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path | str, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on `path`. Raises Locked where another has it and `wait` is false, or OSError.

    What is there and no regular file may be a stranger's: it is neither followed nor opened. A file system without
    locks gives none, and a shared one may give the same one to two machines: whoever locks must bear a second one.
    """
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "the lock is no regular file", str(path))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        _lock(handle, path, wait)
        yield
    finally:
        os.close(handle)  # which lets go of it


def _lock(handle: int, path: Path | str, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise Locked(str(path)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.info("%s: no locks there (%s); going on without", path, error.strerror)
