"""A data set in the layout of COCO 2017, checked before a detector is trained on it.

instances    where its annotations lie: annotations/instances_train2017.json
images       where its images lie: train2017/
prepare      the folder, checked; where iscrowd or area is missing a copy of the annotations that has them
check        everything that the loader and the metric will rely on
categories   class names, in the order of the model's classes
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench.task import DataError, DataInfo, made_once
from nmbench_tasks._shared import folders
from nmbench_tasks.detection import annotations as labels

ANNOTATIONS = "annotations"
SPLITS = ("train", "val")


def instances(root: Path, split: str) -> Path:
    """The instances JSON of `split` ("train" or "val")."""
    return root / ANNOTATIONS / f"instances_{split}2017.json"


def images(root: Path, split: str) -> Path:
    """The folder with the images of `split`."""
    return root / f"{split}2017"


_PARTS = ("images", "annotations", "categories")


class Incomplete(DataError):
    """An instances file lacks what can be filled in: iscrowd, area, ids from 1; or begins with a byte order mark."""


def prepare(named: str, classes: int, masks: bool, root: Path, val_images: int = 0) -> DataInfo:
    """As `check`; what an instances file lacks and can be filled in is, in a copy below `root` with links to images."""
    try:
        return check(named, classes, masks, val_images)
    except Incomplete as incomplete:
        try:
            folder = _completed(Path(named).expanduser().resolve(), root)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise incomplete from None  # there is more wrong with it
        return check(folder, classes, masks, val_images)


def _completed(folder: Path, root: Path) -> Path:
    """The folder of the copy: iscrowd is 0, area width x height of the box, where they are missing."""
    place = root / "detection" / f"coco-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    stamps = [[stat.st_size, stat.st_mtime_ns] for stat in (instances(folder, split).stat() for split in SPLITS)]

    def make(partial: Path) -> dict[str, Any]:
        (partial / ANNOTATIONS).mkdir()
        for split in SPLITS:
            images(partial, split).symlink_to(images(folder, split))
            found = json.loads(instances(folder, split).read_bytes())
            for number, entry in enumerate(found["annotations"], 1):
                entry["id"] = number
                entry.setdefault("iscrowd", 0)
                entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
            instances(partial, split).write_text(json.dumps(found), encoding="utf-8")
        return {}

    made_once(place, {"files": stamps}, make)
    return place


def check(named: str | Path, classes: int, masks: bool, val_images: int = 0) -> DataInfo:
    """Counts and fingerprint of the data in the folder `named`; `masks`: each object needs a segmentation.

    `val_images`: only the first so many are to be evaluated on (0: all), and must hold an object.

    The fingerprint covers the annotations, and names and sizes of the images, not their pixels.

    Raises:
        DataError: a folder or file is missing or broken, an image is named that is not there, there are no
            categories, two of one name, others in val than in train or not `classes` of them, or masks are missing.
    """
    holds = "annotations/, train2017/, val2017/"
    root = folders.user_folder(str(named), f"in the layout of COCO 2017 ({holds})")
    fingerprint = hashlib.sha256()
    listed, counts = {}, {}
    for split in SPLITS:
        found = _read(root, split, fingerprint)
        _check_images(found, root, split, fingerprint)
        listed[split] = _names(found, path := instances(root, split))
        _check_entries(found, path, images(root, split), masks)
        counts[split] = len(found["images"])
    if listed["train"] != listed["val"]:
        raise DataError(
            f"{instances(root, 'train')} and {instances(root, 'val').name} list different "
            "categories; both must have the same ones in the same order"
        )
    labels.check_limit(path, found, val_images)  # of val, which was read last
    labels.check_metric(path, found, masks)
    folders.check_classes(root, len(listed["train"]), classes, "categories")
    return DataInfo(root, counts, fingerprint.hexdigest())


def categories(root: Path) -> tuple[str, ...]:
    """Names of the categories of the (checked) data in `root`, in the order of their annotation file."""
    found = json.loads(instances(root, "val").read_bytes())  # the smaller of the two files
    return tuple(category["name"] for category in found["categories"])


def _read(root: Path, split: str, fingerprint: hashlib._Hash) -> Mapping[str, Any]:
    """The instances JSON of `split`, with lists of images, annotations and categories in it."""
    path = instances(root, split)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{root} has no {path.relative_to(root)}\nput COCO's instances annotations there") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    fingerprint.update(data)
    if data.startswith(codecs.BOM_UTF8):
        raise Incomplete(f"{path} begins with a byte order mark, which pycocotools cannot read")
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error})") from error
    missing = [part for part in _PARTS if not isinstance(found, dict) or not isinstance(found.get(part), list)]
    if missing:
        raise DataError(f"{path} has no list of {missing[0]}; it is no instances file of COCO")
    return dict(found)


def _names(found: Mapping[str, Any], path: Path) -> list[tuple[int, str]]:
    if not found["categories"]:
        raise DataError(f"the list of categories in {path} is empty: there is nothing to detect")
    try:
        names = [(int(category["id"]), str(category["name"])) for category in found["categories"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"a category in {path} has no id or no name") from error
    for place, noun in enumerate(("id", "name")):
        twice = [value for value, count in Counter(one[place] for one in names).items() if count > 1]
        if twice:
            raise DataError(f"two categories in {path} have the {noun} {twice[0]!r}; the loader takes them for one")
    return names


def _check_images(found: Mapping[str, Any], root: Path, split: str, fingerprint: hashlib._Hash) -> None:
    """Every image that the annotations name is a file with something in it."""
    path, folder = instances(root, split), images(root, split)
    if not found["images"]:
        raise DataError(f"the list of images in {path} is empty")
    try:
        names = [str(image["file_name"]) for image in found["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"an image in {path} has no file_name") from error
    missing = []
    for name in names:
        try:
            size = os.stat(folder / name).st_size
        except (OSError, ValueError):  # a name with a NUL or half a character in it is no file's
            size = 0
        if size == 0:
            missing.append(name)
        folders.stamp(fingerprint, f"{split}/{name}", size)
    if missing:
        raise DataError(
            f"{path.name} names images that are missing or empty in {folder}: {len(missing)} of {len(names)}, "
            f"the first is {missing[0]}"
        )


def _check_entries(found: Mapping[str, Any], path: Path, folder: Path, masks: bool) -> None:
    """Raises DataError for what is wrong with an image or an object; Incomplete for what can be filled in."""
    try:
        labels.check_pictures(found["images"], path, folder)
        for entry in found["annotations"]:
            if missing := {"iscrowd", "area"} - set(entry):
                raise Incomplete(f"annotation {entry['id']} in {path} has no {' and no '.join(sorted(missing))}")
            if not entry["id"]:
                raise Incomplete(f"an annotation in {path} has the id 0, which the metric takes for no match")
        labels.check_objects(found, path, masks)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"an entry of {path} is not what COCO has ({type(error).__name__}: {error})") from error
