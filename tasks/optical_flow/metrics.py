"""What a flow is trained on and measured by.

sequence_loss    the training loss of RAFT
Errors           what one image contributes to the metrics
measure          estimate and truth -> Errors
summary          many Errors -> the task's metrics
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_WITHIN = (1.0, 3.0, 5.0)  # px
_FL_PX, _FL_SHARE = 3.0, 0.05


class Errors(NamedTuple):
    """One image: mean end-point error (px), share of pixels within 1, 3 and 5 px, KITTI outliers, known pixels."""

    epe: float
    within: tuple[float, ...]
    outliers: float
    pixels: float


def measure(estimate: Tensor, flow: Tensor, valid: Tensor) -> Errors:
    """`estimate`, `flow`: (2, height, width), px. `valid`: (height, width), bool, with at least one True.

    A pixel whose error is not a number is within nothing, and is an outlier; the mean is then not a number either.
    """
    error = torch.linalg.vector_norm(estimate - flow, dim=0)[valid].double()
    length = torch.linalg.vector_norm(flow, dim=0)[valid].double()
    # as the devkit of KITTI 2015: wrong is what is off by more than 3 px and by more than 5 % of the true length
    right = (error <= _FL_PX) | (error / length <= _FL_SHARE)
    within = tuple((error < px).double().mean().item() for px in _WITHIN)
    return Errors(error.mean().item(), within, (~right).sum().item(), float(error.numel()))


def summary(errors: Sequence[Errors]) -> dict[str, float]:
    """epe (px) and 1px, 3px, 5px (%) are means over the images of each image's own mean; fl_all (%) is over all pixels.

    For images of one size and without gaps the two are the same. 1px is the share of pixels with an error BELOW 1 px
    (higher is better), as RAFT's and torchvision's evaluations print it; fl_all is the share of outliers.
    """
    values = {"epe": sum(error.epe for error in errors) / len(errors)}
    for number, px in enumerate(_WITHIN):
        values[f"{px:.0f}px"] = 100.0 * sum(error.within[number] for error in errors) / len(errors)
    pixels = sum(error.pixels for error in errors)
    return values | {"fl_all": 100.0 * sum(error.outliers for error in errors) / pixels}


def sequence_loss(estimates: Sequence[Tensor], flow: Tensor, valid: Tensor, gamma: float, max_flow: float) -> Tensor:
    """Weighted sum over the updates of the mean L1 distance to the true flow; the last estimate has weight 1.

    Equation 7 of Teed and Deng, RAFT (ECCV 2020). As in the authors' code the mean is over all pixels, those left out
    counting as zero: not `valid`, or moving by `max_flow` or more.

    Args:
        estimates: each (batch, 2, height, width), in px, in the order of the updates.
        flow: (batch, 2, height, width), in px.
        valid: (batch, height, width), bool.
        gamma: the weight of an estimate is gamma to the number of updates after it.
        max_flow: px.
    """
    counted = (valid & (torch.linalg.vector_norm(flow, dim=1) < max_flow))[:, None]
    total = flow.new_zeros(())
    for number, estimate in enumerate(estimates):
        distance = torch.where(counted, (estimate.float() - flow).abs(), 0.0)
        total = total + gamma ** (len(estimates) - 1 - number) * distance.mean()
    return total
