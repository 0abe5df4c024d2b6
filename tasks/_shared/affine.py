"""Affine maps of the image plane as 3 x 3 matrices, in pixels; the middle of the top left pixel is (0.5, 0.5).

linear, similarity, motion, inverse    maps from what they do
apply                         points through a map
warped                        a picture through a map
pixel_centres                 the points of an image
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]


def linear(angle: float, stretch: Array, shear: float = 0.0) -> Array:
    """(2, 2): stretches by `stretch` (across, down), shears, then rotates by `angle` (radians)."""
    return np.asarray(_rotation(angle) @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag(stretch))


def similarity(scale: float, angle: float, source: Array, target: Array) -> Array:
    """Rotates by `angle` (radians), scales by `scale`, and takes the point `source` to `target`."""
    return _translation(target) @ _square(scale * _rotation(angle)) @ _translation(-source)


def motion(centre: Array, shift: Array, angle: float, stretch: Array, shear: float) -> Array:
    """Turns, stretches and shears about `centre` and moves it by `shift` pixels."""
    return _translation(centre + shift) @ _square(linear(angle, stretch, shear)) @ _translation(-centre)


def inverse(matrix: Array) -> Array:
    """The map back."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def apply(matrix: Array, points: Array) -> Array:
    """`points` (..., 2) as (x, y), through `matrix`."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def pixel_centres(height: int, width: int) -> Array:
    """(height, width, 2): the middle (x, y) of every pixel."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y], axis=-1)


def warped(picture: Image.Image, matrix: Array, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """An image of `size` (width, height) whose points `matrix` (2 or 3, 3) takes to points of `picture`."""
    return picture.transform(size, Image.Transform.AFFINE, tuple(matrix[:2].ravel()), resampling)


def _translation(offset: Array) -> Array:
    matrix = np.eye(3)
    matrix[:2, 2] = offset
    return matrix


def _square(matrix: Array) -> Array:
    return np.block([[matrix, np.zeros((2, 1))], [np.zeros((1, 2)), np.ones((1, 1))]])


def _rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
