"""A folder of prepared data that is written once, whole or not at all, whoever asks first. For `Task.prepare`.

    made_once     the manifest of the folder, which is made if it is missing, damaged or of another make

`manifest.json` is written last and the folder gets its name after that, so a folder with a manifest was whole; what was
lost or changed since shows up in the number and the size of the files.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nmbench._util.files import loads, locked, write_json
from nmbench.contract.spec import DataError

Manifest = Mapping[str, Any]


def made_once(folder: Path, key: Mapping[str, Any], make: Callable[[Path], Manifest]) -> Manifest:
    """What `make(empty folder)` returned (JSON values) when it wrote the data of `key` there.

    Safe to call from several processes at once: one makes the data, the others wait for it. `key` (JSON values) says
    what the data were made from and by; a folder with another key is written again.
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
    """Write the data beside `folder`, then give them that name. The caller holds the lock."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    partial.mkdir()
    told = make(partial)
    write_json(partial / "manifest.json", {**told, "key": key, "files": _inventory(partial)})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
