"""Check an ImageFolder data set of the user's: train/<class>/* and val/<class>/*, the layout of ImageNet."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nmbench.task import DataError, DataInfo
from nmbench_tasks._shared import folders

_SPLITS = ("train", "val")


def check(named: str, classes: int) -> DataInfo:
    """Counts and fingerprint of the data in the folder `named`.

    The fingerprint covers names and sizes, not contents: reading all of ImageNet would take longer than a cell.

    Raises:
        DataError: a folder is missing or empty, train and val have different classes or not `classes` of them.
    """
    root = folders.user_folder(named, "with train/ and val/ in it")
    names = {split: _class_names(root / split) for split in _SPLITS}
    if different := set(names["train"]) ^ set(names["val"]):
        some = ", ".join(sorted(different)[:3])
        raise DataError(f"train/ and val/ in {root} have different classes: {len(different)} are in one only ({some})")
    folders.check_classes(root, len(names["train"]), classes, "classes")
    fingerprint = hashlib.sha256()
    counts = {split: sum(_scan(root, f"{split}/{name}", fingerprint) for name in names[split]) for split in _SPLITS}
    return DataInfo(root, counts, fingerprint.hexdigest())


def _class_names(split: Path) -> list[str]:
    if not split.is_dir():
        raise DataError(f"{split.parent} has no {split.name}/ folder\nput one folder of images per class below {split}")
    names = sorted(entry.name for entry in os.scandir(split) if entry.is_dir())
    if not names:
        raise DataError(f"no class folders in {split}\nput one folder of images per class there")
    return names


def _scan(root: Path, part: str, fingerprint: hashlib._Hash) -> int:
    """Number of images below `root`/`part`; their names and sizes go into `fingerprint`.

    Those of val, which are met after the whole training, are opened here; the many of train when they are trained on.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    count = 0
    for place, subfolders, files in os.walk(root / part, followlinks=True):
        subfolders.sort()
        for name in sorted(files):
            if not name.lower().endswith(IMG_EXTENSIONS):
                continue
            path = Path(place, name)
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DataError(f"cannot read the image {path}: {error.strerror}") from error
            if size == 0:
                raise DataError(f"the image {path} is an empty file; replace or remove it")
            if part.startswith("val"):
                _check_head(path)
            folders.stamp(fingerprint, path.relative_to(root).as_posix(), size)
            count += 1
    if count == 0:
        raise DataError(f"the class folder {root / part} has no images ({', '.join(IMG_EXTENSIONS)})")
    return count


def _check_head(path: Path) -> None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            folders.refuse_deep(image, path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {path} ({type(error).__name__}); replace or remove it") from error
