"""Images padded to what RAFT takes, and flows cut back.

Padding    for one size of image
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["Padding"]

_MULTIPLE = 8  # px, of the model's input


class Padding:
    """Repeats the border until height and width are multiples of 8; `street` adds rows at the bottom only, as KITTI."""

    def __init__(self, height: int, width: int, street: bool = False) -> None:
        down, across = -height % _MULTIPLE, -width % _MULTIPLE
        top = 0 if street else down // 2
        self._sides = (across // 2, across - across // 2, top, down - top)

    def pad(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), float, with its border repeated."""
        return functional.pad(images, self._sides, mode="replicate") if any(self._sides) else images

    def cut(self, flows: Tensor) -> Tensor:
        """Of (..., padded height, padded width) the part that `pad` was given."""
        left, right, top, bottom = self._sides
        return flows[..., top : flows.shape[-2] - bottom, left : flows.shape[-1] - right]
