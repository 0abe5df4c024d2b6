"""Pictures of the embedded data set: a handwritten digit in one ink on a crop of a photograph, 32 x 32 RGB.

    SPLITS      images per class in train and val
    originals   which handwritten digits belong to which split (disjoint)
    pictures    every picture of a split, class by class, always the same ones

Both sources ship inside scikit-learn: 1797 digits of 8 x 8 pixels and two photographs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["CLASSES", "SIZE", "SPLITS", "Picture", "originals", "pictures"]

CLASSES = 10
SIZE = 32
#: pictures per class
SPLITS = {"train": 700, "val": 200}
#: handwritten originals per class that only val uses
VAL_ORIGINALS = 70
#: part of a photograph's width that a split may crop from; the rest belongs to the other split
_REGIONS = {"train": (0.0, 0.7), "val": (0.7, 1.0)}
_MARGIN = 2  # empty rim round an 8 x 8 digit, so that interpolation fades it out
_SEED = 20210208
_LUMA = np.array([0.299, 0.587, 0.114])
_BRIGHTEST = 150.0  # mean grey level that a background may have, so that a lighter ink exists
_CONTRAST = 40.0  # grey levels between the ink and the mean of its background, at least


class Picture(NamedTuple):
    """One picture: `pixels` (32, 32, 3) uint8, its class, and the row of the handwritten original in load_digits."""

    pixels: np.ndarray
    label: int
    original: int


def originals() -> dict[str, list[np.ndarray]]:
    """Split -> for each class the rows of `sklearn.datasets.load_digits` that the split may use."""
    from sklearn.datasets import load_digits

    target = load_digits().target
    rng = np.random.default_rng([_SEED, 0])
    rows = [rng.permutation(np.flatnonzero(target == label)) for label in range(CLASSES)]
    return {"train": [r[VAL_ORIGINALS:] for r in rows], "val": [r[:VAL_ORIGINALS] for r in rows]}


def pictures(split: str) -> Iterator[Picture]:
    """Every picture of `split`, ordered by class."""
    from sklearn.datasets import load_digits, load_sample_images

    images = load_digits().images
    glyphs = [_glyph(image) for image in images]
    photographs = [_region(photo, split) for photo in load_sample_images().images]
    rng = np.random.default_rng([_SEED, 1 + list(SPLITS).index(split)])
    for label, rows in enumerate(originals()[split]):
        for number in range(SPLITS[split]):
            row = int(rows[number % len(rows)])
            background = _background(photographs[rng.integers(len(photographs))], rng)
            yield Picture(_inked(background, _jittered(glyphs[row], rng), rng), label, row)


def _glyph(image: np.ndarray) -> Any:
    """A PIL picture of an 8 x 8 digit with values 0..16, with an empty rim."""
    from PIL import Image

    return Image.fromarray(np.pad(np.round(image * (255 / 16)).astype(np.uint8), _MARGIN))


def _region(photo: np.ndarray, split: str) -> Any:
    from PIL import Image

    left, right = (round(part * photo.shape[1]) for part in _REGIONS[split])
    return Image.fromarray(photo[:, left:right])


def _background(photo: Any, rng: np.random.Generator) -> np.ndarray:
    """A random square of `photo` scaled to (32, 32, 3) float64."""
    from PIL import Image

    side = rng.uniform(SIZE, 4 * SIZE)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    box = (left, top, left + side, top + side)
    return np.asarray(photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box), dtype=np.float64)


def _jittered(glyph: Any, rng: np.random.Generator) -> np.ndarray:
    """`glyph` rotated, sheared, scaled and moved: its opacity (32, 32, 1) in 0..1."""
    from PIL import Image

    angle, shear = rng.uniform(-0.36, 0.36), rng.uniform(-0.25, 0.25)
    scale = rng.uniform(2.0, 3.1, size=2)  # output pixels per pixel of the 8 x 8 original, across and down
    shift = rng.uniform(-3.5, 3.5, size=2)
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(rotate @ np.array([[1, shear], [0, 1]]) @ np.diag(scale))
    offset = glyph.width / 2 - inverse @ (SIZE / 2 + shift)
    data = (*inverse[0], offset[0], *inverse[1], offset[1])
    moved = glyph.transform((SIZE, SIZE), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    return np.asarray(moved, dtype=np.float64)[..., None] / 255


def _inked(background: np.ndarray, opacity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write the digit in a random ink, lighter than the (darkened) photograph behind it; (32, 32, 3) uint8.

    Lighter only: with either sign no linear feature helps, and small networks wait on a plateau for a time that
    depends on the seed more than on anything that a benchmark wants to see.
    """
    background = background * rng.uniform(0.5, 1.0) * min(1.0, _BRIGHTEST / max(1.0, background.mean()))
    behind = background.mean(axis=(0, 1)) @ _LUMA
    ink = rng.uniform(0, 255, size=3)
    while ink @ _LUMA - behind < _CONTRAST:
        ink = rng.uniform(0, 255, size=3)
    opacity = opacity * rng.uniform(0.6, 1.0)
    return np.round(background * (1 - opacity) + ink * opacity).astype(np.uint8)
