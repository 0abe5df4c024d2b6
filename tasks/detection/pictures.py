"""Detections drawn on their image, for the report."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import font_manager
from numpy.typing import NDArray
from torchvision.transforms.v2.functional import resize
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

_PALETTE = "#ffd92f", "#66c2ff", "#ff6e54", "#7fe87f", "#e78ac3", "#ffffff", "#fc8d62", "#4de0d0", "#b39ddb", "#ff3d7f"
_SMALL = 320  # an image below this many px is shown at twice its size


def drawn(
    image: np.ndarray, boxes: np.ndarray, labels: Sequence[int], texts: Sequence[str], masks: np.ndarray | None = None
) -> NDArray[np.uint8]:
    """`image` (height, width, 3) uint8 RGB with `boxes` (n, 4; x1, y1, x2, y2 in px) and `masks` (n, height, width).

    Colours go by `labels`, `texts` stand at the boxes. Small images come back at twice their size.
    """
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    factor = 2 if max(picture.shape[1:]) < _SMALL else 1
    size = [factor * side for side in picture.shape[1:]]
    picture = resize(picture, size)
    if len(boxes):
        colours = [_PALETTE[label % len(_PALETTE)] for label in labels]
        if masks is not None:
            shapes = torch.from_numpy(np.ascontiguousarray(masks)).bool()
            shapes = shapes.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
            picture = draw_segmentation_masks(picture, shapes, alpha=0.5, colors=colours)
        scaled = factor * torch.from_numpy(np.asarray(boxes, dtype=np.float32))
        picture = draw_bounding_boxes(
            picture, scaled, labels=list(texts), colors=colours, width=2, font=_font(), font_size=15
        )
    shown: NDArray[np.uint8] = picture.permute(1, 2, 0).contiguous().numpy()
    return shown


@functools.cache
def _font() -> str:
    """A scalable font; torchvision's own cannot be read at any size. matplotlib, which mmdet needs, brings one."""
    return font_manager.findfont("DejaVu Sans")
