"""The embedded data set on disk: written once as ImageFolder, below <data root>/classification.

    prepare          the folder, made if it is missing, stale or incomplete
    check_settings   settings that the embedded data cannot serve

Layout: train/<class>/<original>-<number>.png and val/..., and `manifest.json`. The manifest is written last and the
folder gets its name after that, so a folder with a manifest was whole; files lost later show up in the counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmbench.task import DataError, DataInfo, Spec
from nmbench_tasks.classification import digits

__all__ = ["NAME", "VERSION", "check_settings", "prepare"]

#: to be raised whenever the pictures change
VERSION = 1
NAME = f"digits-on-photographs-v{VERSION}"


def check_settings(spec: Spec) -> None:
    """Raises DataError if the embedded data cannot serve the settings of `spec`."""
    if spec.scale == "paper":
        raise DataError(
            "scale paper needs ImageNet, and the setting data is 'embedded'\n"
            'name its root, with train/ and val/ in it: train = { data = "/path/to/imagenet" }'
        )
    if int(spec.train["classes"]) != digits.CLASSES:
        raise DataError(
            f"the embedded data have {digits.CLASSES} classes, the setting classes is {spec.train['classes']}"
        )


def prepare(root: Path) -> DataInfo:
    """The embedded data below `root`, written if need be. Safe to call from several processes at once."""
    folder = root / "classification" / NAME
    if info := _verified(folder):
        return info
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f".{NAME}.lock"):
        if not (info := _verified(folder)):  # another process may have made it while this one waited
            _rebuild(folder)
            info = _verified(folder)
    if info is None:
        raise DataError(f"the embedded data in {folder} do not match what was just written there; is the disk full?")
    return info


def _verified(folder: Path) -> DataInfo | None:
    """What the manifest says, if the files on disk still agree with it in number and size."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["version"] != VERSION or manifest["files"] != _inventory(folder):
            return None
        return DataInfo(folder, manifest["counts"], manifest["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _inventory(folder: Path) -> dict[str, list[int]]:
    """split/class -> [number of files, bytes]."""
    found = {}
    for split in digits.SPLITS:
        for label in range(digits.CLASSES):
            with os.scandir(folder / split / str(label)) as entries:
                sizes = [entry.stat().st_size for entry in entries]
            found[f"{split}/{label}"] = [len(sizes), sum(sizes)]
    return found


def _rebuild(folder: Path) -> None:
    """Write the whole set beside `folder`, then give it that name. The caller holds the lock."""
    partial = folder.with_name(f".{NAME}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    manifest = _write_pictures(partial)
    with (partial / "manifest.json").open("w") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _write_pictures(folder: Path) -> Mapping[str, Any]:
    from PIL import Image

    fingerprint = hashlib.sha256()
    for split in digits.SPLITS:
        for label in range(digits.CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
        for number, picture in enumerate(digits.pictures(split)):
            name = f"{split}/{picture.label}/{picture.original:04d}-{number:05d}.png"
            Image.fromarray(picture.pixels).save(folder / name, compress_level=1)
            # pixels, not file bytes: another zlib packs the same picture differently
            fingerprint.update(name.encode() + picture.pixels.tobytes())
    return {
        "version": VERSION,
        "counts": {split: each * digits.CLASSES for split, each in digits.SPLITS.items()},
        "fingerprint": fingerprint.hexdigest(),
        "files": _inventory(folder),
    }


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel frees it if the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
