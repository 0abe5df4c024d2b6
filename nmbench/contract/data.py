"""A folder of prepared data that is written once, whole or not at all, whoever asks first. For `Task.prepare`.

    made_once     the manifest of the folder, which is made if it is missing, damaged or of another make

`manifest.json` is written last and the folder gets its name after that, so a folder with a manifest was whole; what was
lost or changed since shows up in the number and the size of the files.
"""

import contextlib
import errno
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nmbench._util.files import loads, locked, write_json
from nmbench.contract.spec import DataError

Manifest = Mapping[str, Any]

_ABANDONED_S = 86400.0  # a folder that was begun so long ago is nobody's


def made_once(folder: Path, key: Mapping[str, Any], make: Callable[[Path], Manifest]) -> Manifest:
    """What `make(empty folder)` returned (JSON values) when it wrote the data of `key` there.

    Safe to call from several processes at once: one makes the data, the others wait for it. Where a lock does not reach
    (another machine with the same folder), each makes the data, and one of them becomes the folder.
    `key` (JSON values) says what the data were made from and by; a folder with another key is written again.
    Raises DataError if what was just written cannot be read back, and whatever `make` raises.
    """
    if manifest := _verified(folder, key):
        return manifest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if not (manifest := _verified(folder, key)):  # another process may have made it while this one waited
            _rebuild(folder, key, make)
            manifest = _verified(folder, key)
    if manifest is None:
        raise DataError(f"the data in {folder} do not match what was just written there; is the disk full?")
    return manifest


def _verified(folder: Path, key: Mapping[str, Any]) -> Manifest | None:
    """The manifest, if it is of `key` and the files on disk still agree with it in number and size."""
    try:
        manifest: Manifest = loads((folder / "manifest.json").read_bytes())
        whole = manifest["key"] == json.loads(json.dumps(key)) and manifest["files"] == _inventory(folder)
        return manifest if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _inventory(folder: Path) -> dict[str, list[int]]:
    """Relative folder -> [number of its files, bytes], without the manifest."""
    found = {}
    for parent, _, names in os.walk(folder):
        sizes = [os.path.getsize(os.path.join(parent, name)) for name in names if name != "manifest.json"]
        found[os.path.relpath(parent, folder)] = [len(sizes), sum(sizes)]
    return found


def _rebuild(folder: Path, key: Mapping[str, Any], make: Callable[[Path], Manifest]) -> None:
    """Write the data beside `folder`, then give them that name, unless another machine did so meanwhile."""
    _sweep(folder)
    partial = _beside(folder)
    partial.mkdir()
    try:
        told = make(partial)
        write_json(partial / "manifest.json", {**told, "key": key, "files": _inventory(partial)})
        _enter(partial, folder, key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _enter(partial: Path, folder: Path, key: Mapping[str, Any]) -> None:
    """Give `partial` the name `folder`, unless whole data of another machine have it by now."""
    while True:
        try:
            partial.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _verified(folder, key):
            return
        _put_aside(folder)


def _put_aside(folder: Path) -> None:
    """In one step, so that nobody sees half of it."""
    aside = _beside(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """A name that no other process on any machine takes, and that says whose it is."""
    return folder.with_name(f".{folder.name}@{platform.node()}@{os.getpid()}@{secrets.token_hex(4)}.partial")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left: those of this machine, and what nobody can be writing any more."""
    for partial in folder.parent.glob(f".{folder.name}*.partial"):
        node, _, rest = partial.name.partition("@")[2].partition("@")
        dead = node == platform.node() and not _alive(rest.partition("@")[0])
        with contextlib.suppress(OSError):
            if dead or time.time() - partial.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(partial, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
