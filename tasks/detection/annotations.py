"""The entries of an instances file of COCO: every key that mmdet's loader or its metric reads, checked.

check_pictures   each image's id, width and height, against the size of the picture as the loader turns it
check_objects    each object's id, image, category, box, area, crowd flag and mask; some can be trained on
check_limit      the images that are evaluated on hold an object
check_metric     pycocotools gives the true objects themselves an AP of 100 %
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from nmbench.task import DataError
from nmbench_tasks._shared.folders import refuse_deep

#: one image, object or category, as the file has it
Entry = Mapping[str, Any]
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # of EXIF
_MEASURED = 200  # images that the metric is tried on
_LEAST_AP = 0.99  # a mask that covers no pixel matches nothing, and large data sets have a few


def check_pictures(entries: list[Entry], path: Path, folder: Path) -> None:
    """Raises DataError: an id is missing or comes twice, or a picture in `folder` is not of the size that is listed."""
    if len({entry.get("id") for entry in entries} - {None}) != len(entries):
        raise DataError(f"the images in {path} need an id each, and no two the same")
    for entry in entries:
        listed = entry.get("width"), entry.get("height")
        read = _size(folder / entry["file_name"])
        if listed != read:
            raise DataError(
                f"{folder / entry['file_name']} is {read[0]} x {read[1]} px, turned as its EXIF data say; {path.name} "
                f"gives width {listed[0]}, height {listed[1]}\nannotate the pictures as they are shown"
            )


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            refuse_deep(image, path)
            turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
            return (image.height, image.width) if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {path} ({type(error).__name__}); replace it") from error


def check_objects(found: Mapping[str, list[Entry]], path: Path, masks: bool) -> None:
    """Raises DataError for the first object that the loader or the metric could not read; `masks`: each needs one."""
    images = {image["id"]: image for image in found["images"]}
    known = {category["id"] for category in found["categories"]}
    usable, seen = 0, set()
    for entry in found["annotations"]:
        where = f"annotation {entry['id']} in {path}"
        if entry["image_id"] not in images:
            raise DataError(f"{where} is of image {entry['image_id']}, not listed there")
        if entry["category_id"] not in known:
            raise DataError(f"{where} has category {entry['category_id']}, not listed there")
        if entry["id"] in seen or not entry["id"]:
            raise DataError(f"{where}: its id comes twice or is 0, which the metric takes for no match")
        seen.add(entry["id"])
        if not _numbers(entry["bbox"], 4):
            raise DataError(f"{where} has no box (x, y, width, height)")
        if not _numbers([entry["area"]], 1) or entry["iscrowd"] not in (0, 1):
            raise DataError(f"{where} has area {entry['area']!r}, iscrowd {entry['iscrowd']!r}: a number, and 0 or 1")
        if masks:
            _check_mask(entry.get("segmentation"), images[entry["image_id"]], where)
        usable += not entry["iscrowd"] and _is_loaded(entry, images[entry["image_id"]])
    if not usable:
        raise DataError(
            f"{path} has no object to learn or to find: {len(found['annotations'])} are listed, and none has an area, "
            "and at least 1 px\neither way inside its image; boxes are in pixels, not between 0 and 1"
        )


def check_limit(path: Path, found: Mapping[str, list[Entry]], limit: int) -> None:
    """Raises DataError if the first `limit` images (0: all) hold nothing to find."""
    images = {image["id"]: image for image in found["images"][: limit or None]}
    entries = (entry for entry in found["annotations"] if entry["image_id"] in images and not entry["iscrowd"])
    if not any(_is_loaded(entry, images[entry["image_id"]]) for entry in entries):
        raise DataError(
            f"the first {limit} images of {path} hold no object, and val_images = {limit} evaluates on no others\n"
            "set val_images higher, or to 0 for all"
        )


def _numbers(values: Any, count: int) -> bool:
    """Is it a list of `count` finite numbers?"""
    return isinstance(values, list) and len(values) == count and all(math.isfinite(value) for value in values)


def _is_loaded(entry: Entry, image: Entry) -> bool:
    """mmdet leaves an object out without a word if its box has less than 1 px, or none inside the image."""
    x, y, width, height = entry["bbox"]
    inside = min(x + width, image["width"]) > max(x, 0) and min(y + height, image["height"]) > max(y, 0)
    return bool(inside and width >= 1 and height >= 1 and entry["area"] > 0)


def _check_mask(mask: Any, image: Entry, where: str) -> None:
    if not mask:
        raise DataError(f"{where} has no segmentation, which this task needs")
    if isinstance(mask, dict):
        good = mask.get("size") == [image["height"], image["width"]] and isinstance(mask.get("counts"), list | str)
    else:
        good = all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 for part in mask)
        good = good and all(_numbers(part, len(part)) for part in mask)
    if not good:
        raise DataError(
            f"{where} has a segmentation that is neither run lengths of its image's size nor a list of polygons "
            "[[x, y, x, y, x, y, ...], ...]"
        )


def check_metric(path: Path, found: Mapping[str, list[Entry]], masks: bool) -> None:
    """Raises DataError unless the true objects, given as detections, reach 100 %: tried on a few images that have any.

    What is wrong then is in the file: an object that the metric cannot match with itself.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    with_objects = list(dict.fromkeys(entry["image_id"] for entry in found["annotations"]))[:_MEASURED]
    chosen = set(with_objects)
    objects = [dict(entry) for entry in found["annotations"] if entry["image_id"] in chosen]
    for kind in ("bbox", "segm") if masks else ("bbox",):
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth.dataset = {**found, "annotations": objects}
            truth.createIndex()
            key = "bbox" if kind == "bbox" else "segmentation"
            answers = COCO()
            answers.dataset = {**found, "annotations": [_answer(truth, entry, key) for entry in objects]}
            answers.createIndex()
            measured = COCOeval(truth, answers, kind)
            measured.params.imgIds = with_objects
            measured.params.maxDets = [1, 10, len(objects)]
            measured.evaluate()
            measured.accumulate()
        precision = measured.eval["precision"][:, :, :, 0, -1]
        mean = precision[precision >= 0].mean() if (precision >= 0).any() else 0.0
        if mean < _LEAST_AP:
            raise DataError(
                f"the true objects of {path} themselves reach {kind} AP {100 * mean:.1f} %, not 100: some are flat, "
                "empty or all a crowd"
            )


def _answer(truth: Any, entry: Entry, key: str) -> dict[str, Any]:
    """The object as a detection that is sure of it."""
    shape = truth.annToRLE(entry) if key == "segmentation" else entry["bbox"]
    kept = {name: entry[name] for name in ("id", "image_id", "category_id", "area", "bbox")}
    return {**kept, key: shape, "score": 1.0, "iscrowd": 0}
