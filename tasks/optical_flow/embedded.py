"""The embedded data: image pairs with known motion, written once as FlyingChairs, below <data root>/optical-flow.

SPLITS      pairs in train and val
Scene       two images, the flow from the first to the second, what is occluded
compose     one scene, a background and one to three cut-outs of photographs, each under its own affine map
scenes      every scene of a split, always the same ones
prepare     the set on disk, made if it is missing, stale or incomplete

The photographs are the two that ship inside scikit-learn. Each is cut in two: train and val share no pixel.
Layout: FlyingChairs/data/<number>_img1.ppm, _img2.ppm, _flow.flo, FlyingChairs/FlyingChairs_train_val.txt, and
`manifest.json` (nmbench.task.made_once).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nmbench.task import DataInfo
from nmbench_tasks._shared import affine, drawing, folders
from nmbench_tasks._shared.affine import Array
from nmbench_tasks.optical_flow import files
from nmbench_tasks.optical_flow.cutouts import Cutout, random_cutout

HEIGHT, WIDTH = 144, 160
#: pairs
SPLITS = {"train": 480, "val": 80}
#: part of each photograph's width that a split may cut from: half of the temple and of the dahlia for either
REGIONS = {"train": ((0.36, 1.0), (0.0, 0.5)), "val": ((0.0, 0.36), (0.5, 1.0))}
#: how far the centre of a layer moves, in px
SHIFT = (8.0, 24.0)
_SEED = 20210208
_ZOOM = (0.5, 0.85)  # px of the photograph to one of the scene: magnified, so that moving it loses no detail
_RIM = 3.0  # px of the photograph that bicubic interpolation reaches beyond a point
_BLOCK = 16  # px
_CONTRAST = 5.0  # grey levels, standard deviation: a block with less (sky, blurred leaves) shows no motion
_TEXTURED = 0.7  # share of a layer's blocks that must show their motion


class Scene(NamedTuple):
    """`first`, `second`: (height, width, 3) uint8. `flow`: (2, height, width) float32, in px, (x, y), exact for the
    layer that is visible at each pixel of `first`. `layers`: (height, width) its number, 0 is the background.
    `occluded`: (height, width) bool, True where what is seen in `first` is hidden in `second` or outside of it.
    """

    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    flow: NDArray[np.float32]
    layers: NDArray[np.uint8]
    occluded: NDArray[np.bool_]


@dataclass(frozen=True)
class _Layer:
    """A piece of a photograph: `texture` maps points of the first image into it, `motion` those into the second.

    `gain` (3,) multiplies the colours, in both images alike. `cutout` is None for the background.
    """

    photograph: Image.Image
    texture: Array
    motion: Array
    gain: Array
    cutout: Cutout | None

    def colours(self, points_to_first: Array) -> Array:
        """(height, width, 3) float64, seen through a map that takes an image's points to those of the first one."""
        image = _warped(self.photograph, self.texture @ points_to_first, Image.Resampling.BICUBIC)
        return np.minimum(np.asarray(image, dtype=np.float64) * self.gain, 255.0)

    def opacity(self, points: Array) -> Array:
        """At `points` (..., 2) of the first image."""
        return np.ones(points.shape[:-1]) if self.cutout is None else self.cutout.opacity(points)


def scenes(split: str) -> Iterator[Scene]:
    """Every scene of `split`. The one of a given number does not depend on how many there are."""
    photographs = drawing.photographs(REGIONS[split])
    for number in range(SPLITS[split]):
        yield compose(np.random.default_rng([_SEED, list(SPLITS).index(split), number]), photographs)


def compose(rng: np.random.Generator, photographs: Sequence[Image.Image]) -> Scene:
    """A scene of two to four layers; `photographs` are PIL images, RGB."""
    layers = [_background(rng, photographs)]
    layers += [_foreground(rng, photographs) for _ in range(rng.integers(1, 4))]
    points = affine.pixel_centres(HEIGHT, WIDTH)
    back = [affine.inverse(layer.motion) for layer in layers]
    opacity_first = np.stack([layer.opacity(points) for layer in layers])
    opacity_second = np.stack([layer.opacity(affine.apply(m, points)) for layer, m in zip(layers, back, strict=True)])
    visible = _topmost(opacity_first)
    moved = np.stack([affine.apply(layer.motion, points) for layer in layers])  # (layers, height, width, 2)
    target = np.take_along_axis(moved, visible[None, ..., None], axis=0)[0]
    return Scene(
        first=_blend([layer.colours(np.eye(3)) for layer in layers], opacity_first),
        second=_blend([layer.colours(m) for layer, m in zip(layers, back, strict=True)], opacity_second),
        flow=np.moveaxis(target - points, -1, 0).astype(np.float32),
        layers=visible.astype(np.uint8),
        occluded=_outside(target) | _covered(layers, back, visible, target),
    )


def _topmost(opacity: Array) -> NDArray[np.intp]:
    """Number of the uppermost layer that is at least half opaque; (layers, ...) -> (...)."""
    last = len(opacity) - 1
    return np.asarray(last - np.argmax(opacity[::-1] >= 0.5, axis=0))


def _blend(colours: list[Array], opacity: Array) -> NDArray[np.uint8]:
    """From the bottom to the top, (height, width, 3) uint8."""
    image = colours[0]
    for colour, alpha in zip(colours[1:], opacity[1:, ..., None], strict=True):
        image = image * (1 - alpha) + colour * alpha
    return np.round(image).astype(np.uint8)


def _outside(points: Array) -> NDArray[np.bool_]:
    x, y = points[..., 0], points[..., 1]
    return np.asarray((x < 0) | (x > WIDTH) | (y < 0) | (y > HEIGHT))


def _covered(layers: list[_Layer], back: list[Array], visible: NDArray[np.intp], target: Array) -> NDArray[np.bool_]:
    """Is another layer than `visible` on top at the points `target` of the second image?"""
    there = np.stack([layer.opacity(affine.apply(m, target)) for layer, m in zip(layers, back, strict=True)])
    return np.asarray(_topmost(there) != visible)


def _background(rng: np.random.Generator, photographs: Sequence[Image.Image]) -> _Layer:
    centre: Array = np.array([WIDTH, HEIGHT]) / 2
    motion = _motion(rng, centre)
    corners = np.array([[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], dtype=float)
    needed = np.concatenate([corners, affine.apply(affine.inverse(motion), corners)])
    return _textured(rng, photographs, motion, needed, None)


def _foreground(rng: np.random.Generator, photographs: Sequence[Image.Image]) -> _Layer:
    centre = rng.uniform([0.1 * WIDTH, 0.1 * HEIGHT], [0.9 * WIDTH, 0.9 * HEIGHT])
    cutout = random_cutout(rng, centre, float(rng.uniform(16, 40)))
    box = centre + cutout.reach * np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    return _textured(rng, photographs, _motion(rng, centre), box, cutout)


def _motion(rng: np.random.Generator, centre: Array) -> Array:
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(*SHIFT)
    shift = length * np.array([np.cos(direction), np.sin(direction)])
    return affine.motion(centre, shift, rng.uniform(-0.12, 0.12), rng.uniform(0.93, 1.07, 2), rng.uniform(-0.05, 0.05))


def _textured(
    rng: np.random.Generator, photographs: Sequence[Image.Image], motion: Array, needed: Array, cutout: Cutout | None
) -> _Layer:
    """A layer whose `needed` points all lie in its photograph, with contrast enough for its motion to be seen."""
    gain = rng.uniform(0.6, 1.3, 3)
    while True:
        photograph = photographs[int(rng.integers(len(photographs)))]
        scale, angle = rng.uniform(*_ZOOM), rng.uniform(-np.pi, np.pi)
        target = rng.uniform([0, 0], photograph.size)
        texture = affine.similarity(scale, angle, needed.mean(axis=0), target)
        inside = affine.apply(texture, needed)
        if (inside < _RIM).any() or (inside > np.array(photograph.size) - _RIM).any():
            continue
        if _shows_motion(np.asarray(_warped(photograph.convert("L"), texture, Image.Resampling.NEAREST)), cutout):
            return _Layer(photograph, texture, motion, gain, cutout)


def _shows_motion(grey: NDArray[np.uint8], cutout: Cutout | None) -> bool:
    """Have most blocks of (height, width) contrast? Of a cut-out only those count whose middle lies in it."""
    rows, columns = HEIGHT // _BLOCK, WIDTH // _BLOCK
    blocks = grey.reshape(rows, _BLOCK, columns, _BLOCK).std(axis=(1, 3))
    if cutout is not None:
        blocks = blocks[cutout.opacity(affine.pixel_centres(rows, columns) * _BLOCK) >= 0.5]
    return blocks.size == 0 or float((blocks >= _CONTRAST).mean()) >= _TEXTURED


def _warped(photograph: Image.Image, matrix: Array, resampling: Image.Resampling) -> Image.Image:
    return affine.warped(photograph, matrix, (WIDTH, HEIGHT), resampling)


#: to be raised whenever the pairs change
VERSION = 1
NAME = f"moving-photographs-v{VERSION}"
_MARKS = {"train": files.TRAIN, "val": files.VAL}


def prepare(root: Path) -> DataInfo:
    """The embedded data below `root`, written if need be. Safe to call from several processes at once."""
    return folders.embedded(root / "optical-flow" / NAME, VERSION, _write_pairs)


def _write_pairs(folder: Path) -> Mapping[str, Any]:
    data = folder / "FlyingChairs" / "data"
    data.mkdir(parents=True)
    fingerprint = hashlib.sha256()
    marks: list[int] = []
    for split in SPLITS:
        for scene in scenes(split):
            marks.append(_MARKS[split])
            stem = f"{len(marks):05d}"
            files.write_ppm(data / f"{stem}_img1.ppm", scene.first)
            files.write_ppm(data / f"{stem}_img2.ppm", scene.second)
            files.write_flo(data / f"{stem}_flow.flo", scene.flow)
            fingerprint.update(stem.encode() + scene.first.tobytes() + scene.second.tobytes() + scene.flow.tobytes())
    files.write_split(folder / "FlyingChairs" / "FlyingChairs_train_val.txt", marks)
    return {"counts": dict(SPLITS), "fingerprint": fingerprint.hexdigest()}
