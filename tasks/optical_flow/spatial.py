"""Spatial augmentation as in RAFT: zoom, stretch, mirror images, crops; the flow goes with the images.

zoom      both images and the flow, resized; a flow with gaps is moved point by point, never interpolated
mirror    across or down
crop      a window
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nmbench_tasks.optical_flow.sets import Pair

_ZOOMED = 0.8  # how often a pair is zoomed
_STRETCHED = 0.8  # how often a dense pair's axes are zoomed differently
_STRETCH = 0.2  # log2
_BEYOND = {False: (20, 20), True: (20, 50)}  # px, dense and sparse: lets crops at the border come more often


def random_zoom(
    pair: Pair, rng: np.random.Generator, size: tuple[int, int], scales: tuple[float, float], sparse: bool
) -> Pair:
    """Zooms by 2 to a power within `scales`, always so far that a crop of `size` (height, width) fits."""
    height, width = pair.flow.shape[-2:]
    across = down = 2.0 ** rng.uniform(*scales)
    if not sparse and rng.random() < _STRETCHED:
        across *= 2.0 ** rng.uniform(-_STRETCH, _STRETCH)
        down *= 2.0 ** rng.uniform(-_STRETCH, _STRETCH)
    wanted = rng.random() < _ZOOMED
    new = [
        max(least, round(side * factor) if wanted else side)
        for least, side, factor in zip(size, (height, width), (down, across), strict=True)
    ]
    return pair if new == [height, width] else zoom(pair, (new[0], new[1]), sparse)


def zoom(pair: Pair, size: tuple[int, int], sparse: bool) -> Pair:
    """`pair` at `size` (height, width)."""
    height, width = pair.flow.shape[-2:]
    factor = torch.tensor([size[1] / width, size[0] / height])
    images = torch.stack([pair.first, pair.second]).float()
    first, second = _resized(images, size).round().clamp(0, 255).to(torch.uint8)
    if sparse:
        return Pair(first, second, *_scattered(pair.flow, pair.valid, factor, size))
    # a pixel with an unknown neighbour is unknown
    valid = _resized(pair.valid.float()[None, None], size)[0, 0] > 0.999
    return Pair(first, second, _resized(pair.flow[None], size)[0] * factor[:, None, None], valid)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _scattered(flow: Tensor, valid: Tensor, factor: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Each known point goes to the nearest pixel of the new grid; where two meet the later one stays."""
    y, x = torch.nonzero(valid, as_tuple=True)
    column = torch.clamp(((x + 0.5) * factor[0]).floor().long(), max=size[1] - 1)
    row = torch.clamp(((y + 0.5) * factor[1]).floor().long(), max=size[0] - 1)
    place = (row * size[1] + column).numpy()
    # numpy's assignment keeps the last of equal places, torch's promises nothing
    moved = np.zeros((2, size[0] * size[1]), dtype=np.float32)
    moved[:, place] = (flow[:, y, x] * factor[:, None]).numpy()
    known = np.zeros(size[0] * size[1], dtype=bool)
    known[place] = True
    return torch.from_numpy(moved).reshape(2, *size), torch.from_numpy(known).reshape(size)


def mirror(pair: Pair, across: bool, down: bool) -> Pair:
    """Left and right exchanged, or top and bottom, or both; the flow's sign with them."""
    for wanted, axis, component in ((across, -1, 0), (down, -2, 1)):
        if wanted:
            pair = Pair(*(field.flip(axis) for field in pair))
            sign = torch.ones(2, 1, 1)
            sign[component] = -1
            pair = pair._replace(flow=pair.flow * sign)
    return pair


def random_crop(pair: Pair, rng: np.random.Generator, size: tuple[int, int], sparse: bool = False) -> Pair:
    """A crop of `size` (height, width). Raises ValueError if the pair is smaller."""
    places = []
    for have, want, beyond in zip(pair.flow.shape[-2:], size, _BEYOND[sparse], strict=True):
        if have < want:
            raise ValueError(f"a crop of {size} does not fit into {tuple(pair.flow.shape[-2:])}")
        places.append(int(np.clip(rng.integers(-beyond, have - want + beyond + 1), 0, have - want)))
    return crop(pair, places[0], places[1], size)


def crop(pair: Pair, top: int, left: int, size: tuple[int, int]) -> Pair:
    """The window of `size` (height, width) whose first pixel is (top, left)."""
    window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    return Pair(*(field[window].contiguous() for field in pair))
