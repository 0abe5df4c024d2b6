"""The embedded data: scenes of 1 to 4 handwritten digits, each in an ink of its own, on a crop of a photograph.

SPLITS      scenes in train and val
Scene       pixels and the objects in them
scenes      every scene of a split, always the same ones
prepare     the set on disk below <data root>/detection, made if it is missing, stale or incomplete

Val has handwritten originals and photograph regions of its own. Layout: COCO 2017's (masks as compressed RLE), with
*.png, and `manifest.json` (nmbench.task.made_once).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nmbench.task import DataInfo, Spec
from nmbench_tasks._shared import drawing, folders
from nmbench_tasks._shared.affine import Array, linear
from nmbench_tasks._shared.drawing import CLASSES
from nmbench_tasks.detection import coco
from nmbench_tasks.detection.scales import Settings

#: height and width of a scene in pixels
SIZE = 160
#: scenes
SPLITS = {"train": 480, "val": 160}
_SEED = 20210209
_MOST = 4  # digits in a scene
_HEIGHTS = (26.0, 100.0)  # of a digit, in pixels
_HUGE = (140.0, 156.0)  # of the digit of most scenes with one only: COCO calls a mask large from 96 x 96 px on
_HUGE_SHARE = 0.8
_STRETCH = (0.95, 1.35)  # width of a digit against its natural one
_HUGE_STRETCH = (1.2, 1.7)
_INSIDE = 0.3  # opacity from which a pixel belongs to the digit's mask
_OVERLAP = 0.1  # part of the smaller of two boxes that may be covered by the other
_BRIGHTEST = 110.0  # mean grey level of a background
_CONTRAST = 60.0  # grey levels between an ink and the background's mean, at least

#: (x, y, width, height) in px
Box = tuple[int, int, int, int]


class Object(NamedTuple):
    """A digit in a scene: its class, its row in load_digits, its mask (SIZE, SIZE) bool, its box (x, y, w, h) in px."""

    label: int
    original: int
    mask: NDArray[np.bool_]
    box: Box


class Scene(NamedTuple):
    """`pixels` (SIZE, SIZE, 3) uint8, and the digits in it; none covers another by more than a little."""

    pixels: NDArray[np.uint8]
    objects: list[Object]


def scenes(split: str) -> Iterator[Scene]:
    """Every scene of `split`. Each handwritten original of the split comes about equally often."""
    glyphs, photographs = drawing.glyphs(), drawing.photographs(drawing.HALVES[split])
    by_class = drawing.originals()[split]
    labels = {int(row): label for label, rows in enumerate(by_class) for row in rows}
    rng = np.random.default_rng([_SEED, list(SPLITS).index(split)])
    rows = _rows(np.concatenate(by_class), rng)
    for _ in range(SPLITS[split]):
        pixels = _background(photographs[rng.integers(len(photographs))], rng)
        behind = float(pixels.mean(axis=(0, 1)) @ drawing.LUMA)
        objects: list[Object] = []
        for height in _heights(rng):
            row = next(rows)
            placed = _placed(glyphs[row], height, [o.box for o in objects], rng)
            if placed is None:
                continue
            opacity, box = placed
            pixels = _inked(pixels, opacity, behind, rng)
            objects.append(Object(labels[row], row, opacity > _INSIDE, box))
        yield Scene(np.round(pixels).astype(np.uint8), objects)


def _rows(available: NDArray[np.intp], rng: np.random.Generator) -> Iterator[int]:
    """Rows of load_digits without end, shuffled anew each time that all of them came."""
    while True:
        yield from map(int, rng.permutation(available))


def _heights(rng: np.random.Generator) -> list[float]:
    """Heights in px of the digits of one scene, the largest first, so that it still finds room."""
    count = int(rng.integers(1, _MOST + 1))
    if count == 1 and rng.random() < _HUGE_SHARE:
        return [float(rng.uniform(*_HUGE))]
    low, high = map(math.log, _HEIGHTS)
    return sorted(np.exp(rng.uniform(low, high, size=count)).tolist(), reverse=True)


def _background(photo: Image.Image, rng: np.random.Generator) -> Array:
    """A random square of `photo`, darkened, scaled to (SIZE, SIZE, 3)."""
    pixels = drawing.background(photo, rng.uniform(0.4, 1.0) * min(photo.size), SIZE, rng)
    return pixels * rng.uniform(0.6, 1.0) * min(1.0, _BRIGHTEST / max(1.0, float(pixels.mean())))


def _placed(glyph: Image.Image, height: float, taken: list[Box], rng: np.random.Generator) -> tuple[Array, Box] | None:
    """`glyph` turned and scaled to about `height` px, somewhere free: opacity (SIZE, SIZE) in 0..1 and its box.

    A little smaller with each trial; None if it found no free place in 20.
    """
    for trial in range(20):
        opacity = _jittered(glyph, height * 0.98**trial, rng)
        box = _box(opacity > _INSIDE)
        if box is not None and all(_covered(box, other) <= _OVERLAP for other in taken):
            return opacity, box
    return None


def _jittered(glyph: Image.Image, height: float, rng: np.random.Generator) -> Array:
    """The digit's opacity (SIZE, SIZE) in 0..1, rotated by up to 20 degrees, wholly inside the scene."""
    angle = rng.uniform(-0.35, 0.35)
    stretch = rng.uniform(*(_STRETCH if height <= _HEIGHTS[1] else _HUGE_STRETCH))
    scale = height / 8 * np.array([stretch, 1.0])  # output px per px of the original, across and down
    half = np.minimum(4 * scale, SIZE / 2 - 1)
    centre = np.array([rng.uniform(h, SIZE - h) for h in half])
    return drawing.opacity(glyph, linear(angle, scale), centre, SIZE)


def _box(mask: NDArray[np.bool_]) -> Box | None:
    """The box (x, y, w, h) that just holds `mask`; None if there is none or it touches the scene's border."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0 or 0 in (rows[0], columns[0]) or SIZE - 1 in (rows[-1], columns[-1]):
        return None
    return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def _covered(box: Box, other: Box) -> float:
    """The part of the smaller box that lies in the other."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(0, width) * max(0, height) / min(box[2] * box[3], other[2] * other[3])


def _inked(pixels: Array, opacity: Array, behind: float, rng: np.random.Generator) -> Array:
    """Write a digit in a random ink, lighter than the photograph's mean grey `behind`; (SIZE, SIZE, 3) float64."""
    ink = drawing.ink(rng, behind, _CONTRAST)
    cover = (opacity * rng.uniform(0.75, 1.0))[..., None]
    return pixels * (1 - cover) + ink * cover


#: to be raised whenever the scenes change
VERSION = 1
NAME = f"digit-scenes-v{VERSION}"


def prepare(spec: Spec, root: Path) -> DataInfo:
    """The embedded data below `root`, written if need be. Safe to call from several processes at once.

    Raises DataError if they cannot serve the settings of `spec`.
    """
    holds = "annotations/, train2017/ and val2017/"
    folders.refuse_paper(spec, "COCO 2017", f'name its root, with {holds} in it: train = {{ data = "/path/to/coco" }}')
    folders.check_classes(None, CLASSES, Settings.of(spec).classes, "classes")
    return folders.embedded(root / "detection" / NAME, VERSION, _write_set)


def _write_set(folder: Path) -> dict[str, Any]:
    """All splits; what the manifest says of them."""
    fingerprint = hashlib.sha256()
    counts = {split: _write_split(folder, split, fingerprint) for split in SPLITS}
    return {"counts": counts, "fingerprint": fingerprint.hexdigest()}


def _write_split(folder: Path, split: str, fingerprint: hashlib._Hash) -> int:
    """Images and annotations of `split`; returns the number of images."""
    target = coco.images(folder, split)
    target.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes(split), start=1):
        name = f"{number:012d}.png"
        folders.save_png(scene.pixels, target / name, fingerprint, f"{split}/{name}")
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        annotations += [_annotation(len(annotations) + k, number, o) for k, o in enumerate(scene.objects, start=1)]
    categories = [{"id": c + 1, "name": str(c), "supercategory": "digit"} for c in range(CLASSES)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    fingerprint.update(text.encode())
    path = coco.instances(folder, split)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return len(images)


def _annotation(identity: int, image: int, found: Object) -> dict[str, Any]:
    """One object in COCO's words. `original` (the row in load_digits) is an extra that COCO's tools pass over."""
    import numpy as np
    from pycocotools import mask

    rle = mask.encode(np.asfortranarray(found.mask.astype(np.uint8)))
    return {
        "id": identity,
        "image_id": image,
        "category_id": found.label + 1,
        "bbox": list(found.box),
        "area": int(found.mask.sum()),
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
        "original": found.original,
    }
