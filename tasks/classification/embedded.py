"""The embedded data set on disk: written once as ImageFolder, below <data root>/classification.

    prepare    the folder, made if it is missing, stale or incomplete

Layout: train/<class>/<original>-<number>.png and val/..., and `manifest.json` (nmbench.task.made_once).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench.task import DataInfo, Spec
from nmbench_tasks._shared import folders
from nmbench_tasks._shared.drawing import CLASSES
from nmbench_tasks.classification import digits
from nmbench_tasks.classification.scales import Settings

__all__ = ["NAME", "VERSION", "prepare"]

#: to be raised whenever the pictures change
VERSION = 1
NAME = f"digits-on-photographs-v{VERSION}"


def prepare(spec: Spec, root: Path) -> DataInfo:
    """The embedded data below `root`, written if need be. Safe to call from several processes at once.

    Raises DataError if they cannot serve the settings of `spec`.
    """
    example = 'name its root, with train/ and val/ in it: train = { data = "/path/to/imagenet" }'
    folders.refuse_paper(spec, "ImageNet", example)
    folders.check_classes(None, CLASSES, Settings.of(spec).classes, "classes")
    return folders.embedded(root / "classification" / NAME, VERSION, _write_pictures)


def _write_pictures(folder: Path) -> Mapping[str, Any]:
    fingerprint = hashlib.sha256()
    for split in digits.SPLITS:
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
        for number, picture in enumerate(digits.pictures(split)):
            name = f"{split}/{picture.label}/{picture.original:04d}-{number:05d}.png"
            folders.save_png(picture.pixels, folder / name, fingerprint, name)
    counts = {split: each * CLASSES for split, each in digits.SPLITS.items()}
    return {"counts": counts, "fingerprint": fingerprint.hexdigest()}
