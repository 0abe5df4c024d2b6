"""Pictures of a flow for the report: the usual colour wheel, hue for direction and strength for length.

flow_picture     an estimate or the truth, on the truth's own scale
image_picture    an image, of the same size
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.utils import flow_to_image

_SMALL = 256  # px: a picture that is no wider is shown at twice its size
_WIDE = 640  # px: one that is wider is shown smaller


def flow_picture(flow: Tensor, truth: Tensor, valid: Tensor) -> NDArray[np.uint8]:
    """`flow` (2, height, width) as RGB; the longest vector of `truth` has full strength, in every cell alike.

    Longer estimates are shown at full strength too. Where `truth` is unknown it is shown as no motion.
    """
    longest = torch.linalg.vector_norm(torch.where(valid, truth, 0.0), dim=0).max().clamp(min=1e-6)
    length = torch.linalg.vector_norm(flow, dim=0).clamp(min=1e-6)
    within = torch.nan_to_num(flow * (longest / length).clamp(max=1.0))
    # torchvision divides by the longest vector of what it is given: one of that length goes along
    scale = torch.zeros_like(within)
    scale[0] = longest
    return _sized(flow_to_image(torch.stack([within, scale]).float())[0])


def image_picture(image: Tensor) -> NDArray[np.uint8]:
    """`image`: (3, height, width) uint8."""
    return _sized(image)


def _sized(picture: Tensor) -> NDArray[np.uint8]:
    """(3, height, width) uint8 -> (h, w, 3), twice as large if small, at most 640 px wide."""
    width = picture.shape[-1]
    factor = 2.0 if width <= _SMALL else min(1.0, _WIDE / width)
    if factor != 1.0:
        mode = "nearest" if factor > 1 else "area"
        picture = functional.interpolate(picture[None].float(), scale_factor=factor, mode=mode)[0]
    return picture.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
