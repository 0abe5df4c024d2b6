"""The embedded data set: a handwritten digit in one ink on a crop of a photograph, 32 x 32 RGB, 10 classes.

SPLITS      images per class in train and val
pictures    every picture of a split, class by class, always the same ones
prepare     the set on disk below <data root>/classification, made if it is missing, stale or incomplete

Layout: train/<class>/<original>-<number>.png and val/..., and `manifest.json` (nmbench.task.made_once).
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nmbench.task import DataInfo, Spec
from nmbench_tasks._shared import drawing, folders
from nmbench_tasks._shared.affine import Array, linear
from nmbench_tasks._shared.drawing import CLASSES
from nmbench_tasks.classification.scales import Settings

SIZE = 32
#: pictures per class
SPLITS = {"train": 700, "val": 200}
_SEED = 20210208
_BRIGHTEST = 150.0  # mean grey level that a background may have, so that a lighter ink exists
_CONTRAST = 40.0  # grey levels between the ink and the mean of its background, at least


class Picture(NamedTuple):
    """One picture: `pixels` (32, 32, 3) uint8, its class, and the row of the handwritten original in load_digits."""

    pixels: NDArray[np.uint8]
    label: int
    original: int


def pictures(split: str) -> Iterator[Picture]:
    """Every picture of `split`, ordered by class."""
    glyphs, photographs = drawing.glyphs(), drawing.photographs(drawing.HALVES[split])
    rng = np.random.default_rng([_SEED, 1 + list(SPLITS).index(split)])
    for label, rows in enumerate(drawing.originals()[split]):
        for number in range(SPLITS[split]):
            row = int(rows[number % len(rows)])
            photo = photographs[rng.integers(len(photographs))]
            background = drawing.background(photo, rng.uniform(SIZE, 4 * SIZE), SIZE, rng)
            yield Picture(_inked(background, _jittered(glyphs[row], rng), rng), label, row)


def _jittered(glyph: Image.Image, rng: np.random.Generator) -> Array:
    """`glyph` rotated, sheared, scaled and moved: its opacity (32, 32, 1) in 0..1."""
    angle, shear = rng.uniform(-0.36, 0.36), rng.uniform(-0.25, 0.25)
    scale = rng.uniform(2.0, 3.1, size=2)  # output pixels per pixel of the 8 x 8 original, across and down
    shift = rng.uniform(-3.5, 3.5, size=2)
    return drawing.opacity(glyph, linear(angle, scale, shear), SIZE / 2 + shift, SIZE)[..., None]


def _inked(background: Array, opacity: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Write the digit in a random ink, lighter than the (darkened) photograph behind it; (32, 32, 3) uint8.

    Lighter only: with either sign no linear feature helps, and small networks wait on a plateau for a time that
    depends on the seed more than on anything that a benchmark wants to see.
    """
    background = background * rng.uniform(0.5, 1.0) * min(1.0, _BRIGHTEST / max(1.0, background.mean()))
    ink = drawing.ink(rng, float(background.mean(axis=(0, 1)) @ drawing.LUMA), _CONTRAST)
    opacity = opacity * rng.uniform(0.6, 1.0)
    return np.round(background * (1 - opacity) + ink * opacity).astype(np.uint8)


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
    for split in SPLITS:
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
        for number, picture in enumerate(pictures(split)):
            name = f"{split}/{picture.label}/{picture.original:04d}-{number:05d}.png"
            folders.save_png(picture.pixels, folder / name, fingerprint, name)
    counts = {split: each * CLASSES for split, each in SPLITS.items()}
    return {"counts": counts, "fingerprint": fingerprint.hexdigest()}
