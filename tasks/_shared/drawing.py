"""Handwritten digits and photographs, out of which the embedded data sets are drawn. Both ship inside scikit-learn.

originals     which of the 1797 digits of 8 x 8 pixels a split may use (disjoint)
glyphs        the digits as pictures
photographs   the parts of the two photographs that a split may use
background    a random square of a photograph
opacity       a digit turned, stretched and placed
ink           a colour that stands out
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nmbench_tasks._shared.affine import Array, inverse, warped

CLASSES = 10
#: part of every photograph's width that a split may crop from
HALVES = {"train": ((0.0, 0.7),) * 2, "val": ((0.7, 1.0),) * 2}
#: grey level of (red, green, blue)
LUMA = np.array([0.299, 0.587, 0.114])
#: handwritten originals per class that only val uses
_VAL_ORIGINALS = 70
_RIM = 2  # empty pixels round an 8 x 8 digit, so that interpolation fades it out
_SEED = 20210208


def originals() -> dict[str, list[NDArray[np.intp]]]:
    """Split -> for each class the rows of `sklearn.datasets.load_digits` that the split may use."""
    from sklearn.datasets import load_digits

    target = load_digits().target
    rng = np.random.default_rng([_SEED, 0])
    rows = [rng.permutation(np.flatnonzero(target == label)) for label in range(CLASSES)]
    return {"train": [r[_VAL_ORIGINALS:] for r in rows], "val": [r[:_VAL_ORIGINALS] for r in rows]}


def glyphs() -> list[Image.Image]:
    """Every row of load_digits in grey, with an empty rim."""
    from sklearn.datasets import load_digits

    images = load_digits().images  # values 0..16
    return [Image.fromarray(np.pad(np.round(image * (255 / 16)).astype(np.uint8), _RIM)) for image in images]


def photographs(parts: Sequence[tuple[float, float]]) -> list[Image.Image]:
    """Of each photograph the columns between two shares of its width, (left, right) in `parts`."""
    from sklearn.datasets import load_sample_images

    found = []
    for photo, part in zip(load_sample_images().images, parts, strict=True):
        left, right = (round(share * photo.shape[1]) for share in part)
        found.append(Image.fromarray(photo[:, left:right]))
    return found


def background(photo: Image.Image, side: float, size: int, rng: np.random.Generator) -> Array:
    """A random square of `photo`, `side` px wide, scaled to (size, size, 3)."""
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    box = (left, top, left + side, top + side)
    return np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR, box=box), dtype=np.float64)


def opacity(glyph: Image.Image, linear: Array, centre: Array, size: int) -> Array:
    """`glyph` through `linear` (2, 2), its middle at `centre` (x, y): 0..1, (size, size)."""
    back = inverse(linear)
    offset = glyph.width / 2 - back @ centre
    moved = warped(glyph, np.column_stack([back, offset]), (size, size), Image.Resampling.BICUBIC)
    return np.asarray(moved, dtype=np.float64) / 255


def ink(rng: np.random.Generator, behind: float, contrast: float) -> Array:
    """A random colour (3,) that is lighter than the grey level `behind` by `contrast` at least."""
    colour = rng.uniform(0, 255, size=3)
    while colour @ LUMA - behind < contrast:
        colour = rng.uniform(0, 255, size=3)
    return colour
