"""A data set in the layout of COCO 2017, checked before a detector is trained on it.

instances    where its annotations lie: annotations/instances_train2017.json
images       where its images lie: train2017/
check        everything that the loader will rely on
categories   class names, in the order of the model's classes
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench.task import DataError, DataInfo
from nmbench_tasks._shared import folders

ANNOTATIONS = "annotations"
SPLITS = ("train", "val")


def instances(root: Path, split: str) -> Path:
    """The instances JSON of `split` ("train" or "val")."""
    return root / ANNOTATIONS / f"instances_{split}2017.json"


def images(root: Path, split: str) -> Path:
    """The folder with the images of `split`."""
    return root / f"{split}2017"


_PARTS = ("images", "annotations", "categories")


def check(named: str, classes: int, masks: bool) -> DataInfo:
    """Counts and fingerprint of the data in the folder `named`; `masks`: each object needs a segmentation.

    The fingerprint covers the annotations, and names and sizes of the images, not their pixels.

    Raises:
        DataError: a folder or file is missing or broken, an image is named that is not there, there are no
            categories, others in val than in train or not `classes` of them, or masks are missing.
    """
    holds = "annotations/, train2017/, val2017/"
    root = folders.user_folder(named, f"in the layout of COCO 2017 ({holds})")
    fingerprint = hashlib.sha256()
    listed, counts = {}, {}
    for split in SPLITS:
        found = _read(root, split, fingerprint)
        _check_images(found, root, split, fingerprint)
        _check_annotations(found, instances(root, split), masks)
        listed[split] = _names(found, instances(root, split))
        counts[split] = len(found["images"])
    if listed["train"] != listed["val"]:
        raise DataError(
            f"{instances(root, 'train')} and {instances(root, 'val').name} list different "
            "categories; both must have the same ones in the same order"
        )
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
    try:
        found = json.loads(data)
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
        return [(int(category["id"]), str(category["name"])) for category in found["categories"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"a category in {path} has no id or no name") from error


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


def _check_annotations(found: Mapping[str, Any], path: Path, masks: bool) -> None:
    """Every object belongs to an image and a category that are listed, and has a box (and a mask)."""
    try:
        images = {image["id"] for image in found["images"]}
        known = {category["id"] for category in found["categories"]}
        for annotation in found["annotations"]:
            number = annotation["id"]
            if annotation["image_id"] not in images:
                raise DataError(f"annotation {number} in {path} is of image {annotation['image_id']}, not listed there")
            if known and annotation["category_id"] not in known:
                raise DataError(
                    f"annotation {number} in {path} has category {annotation['category_id']}, not listed there"
                )
            if len(annotation["bbox"]) != 4:
                raise DataError(f"annotation {number} in {path} has no box (x, y, width, height)")
            if masks and not annotation.get("segmentation"):
                raise DataError(f"annotation {number} in {path} has no segmentation, which this task needs")
    except (KeyError, TypeError) as error:
        raise DataError(f"an entry of {path} is not what COCO has ({type(error).__name__}: {error})") from error
