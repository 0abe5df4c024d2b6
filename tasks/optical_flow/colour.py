"""Photometric augmentation as in RAFT: colour jitter, alike for both images or not, and erased rectangles.

jitter    brightness, contrast, saturation, hue
erase     rectangles of the second image in its mean colour: what was there is occluded
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional

_STRENGTH = {False: (0.4, 0.5 / np.pi), True: (0.3, 0.3 / np.pi)}  # dense, sparse: factors, share of the hue circle
_ASYMMETRIC = 0.2  # how often the two images of a dense pair get different colours
_ERASED = 0.5  # how often something is erased
_SIDE = (50, 100)  # px, for images of the height of FlyingChairs or more
_CHAIRS_HEIGHT = 384


def jitter(first: Tensor, second: Tensor, rng: np.random.Generator, sparse: bool) -> tuple[Tensor, Tensor]:
    """Both images (3, height, width) uint8; a sparse (street) pair is changed less, and always alike."""
    asymmetric = not sparse and rng.random() < _ASYMMETRIC
    change = _change(rng, *_STRENGTH[sparse])
    return change(first), (_change(rng, *_STRENGTH[sparse]) if asymmetric else change)(second)


def _change(rng: np.random.Generator, strength: float, hue: float) -> Callable[[Tensor], Tensor]:
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    turn = rng.uniform(-hue, hue)
    steps: list[Callable[[Tensor], Tensor]] = [
        lambda image: functional.adjust_brightness(image, brightness),
        lambda image: functional.adjust_contrast(image, contrast),
        lambda image: functional.adjust_saturation(image, saturation),
        lambda image: functional.adjust_hue(image, turn),
    ]
    order = rng.permutation(len(steps))

    def change(image: Tensor) -> Tensor:
        for number in order:
            image = steps[number](image)
        return image

    return change


def erase(second: Tensor, rng: np.random.Generator) -> Tensor:
    """`second` (3, height, width) uint8, half of the time with one or two rectangles erased, in a copy."""
    if rng.random() >= _ERASED:
        return second
    height, width = second.shape[-2:]
    mean = second.float().mean(dim=(1, 2), keepdim=True).round().to(second.dtype)
    shrink = min(1.0, min(height, width) / _CHAIRS_HEIGHT)
    erased = second.clone()
    for _ in range(rng.integers(1, 3)):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        tall, wide = (max(1, round(shrink * side)) for side in rng.integers(*_SIDE, 2))
        erased[:, y : y + tall, x : x + wide] = mean
    return erased
