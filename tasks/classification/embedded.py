"""The embedded data set on disk: written once as ImageFolder, below <data root>/classification.

    prepare          the folder, made if it is missing, stale or incomplete
    check_settings   settings that the embedded data cannot serve

Layout: train/<class>/<original>-<number>.png and val/..., and `manifest.json` (nmbench.contract.data).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench.contract.data import made_once
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
    manifest = made_once(folder, {"version": VERSION}, _write_pictures)
    return DataInfo(folder, manifest["counts"], manifest["fingerprint"])


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
        "counts": {split: each * digits.CLASSES for split, each in digits.SPLITS.items()},
        "fingerprint": fingerprint.hexdigest(),
    }
