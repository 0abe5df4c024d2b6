"""The operators of `mmcv._ext` that torchvision serves, under mmcv's names and signatures.

    nms, softnms                     greedy non-maximum suppression, and the one that lowers scores
    roi_align_*, roi_pool_*          regions of interest, forward and backward
    deform_conv_*, modulated_*       deformable convolution, in `_deform`
    sigmoid_focal_loss_*             focal loss of the logits, forward and backward
    get_compiler_version, get_compiling_cuda_version    what mmcv prints of its build

As in mmcv, each `_forward` and `_backward` writes its result into a tensor it is given (`output`, `grad_input`). All
work on CPU and CUDA. float16 and bfloat16 are computed in float32 and rounded once, at the end: torchvision's CPU
kernels know neither. On CUDA the backward of the RoI operators and of deformable convolution adds atomically, as mmcv's
own does: the last bit of a gradient may differ from run to run.
"""

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import logsigmoid, pad
from torchvision.ops import sigmoid_focal_loss

from nmbench_tasks.detection import _deform
from nmbench_tasks.detection._deform import *  # noqa: F403

__all__ = [
    *_deform.__all__,
    "get_compiler_version",
    "get_compiling_cuda_version",
    "nms",
    "roi_align_backward",
    "roi_align_forward",
    "roi_pool_backward",
    "roi_pool_forward",
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softnms",
]

# the operators themselves: in torch's deterministic mode torchvision.ops.roi_align needs torch.compile on CUDA
_tv = torch.ops.torchvision
_AVERAGE = 1  # mmcv's number for pool_mode="avg"
_LINEAR, _GAUSSIAN = 1, 2  # its numbers for the method of soft_nms; 0 is "naive"
_OUTSIDE = -9.0  # a place left of and above every map


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes kept, best score first, of equal scores the lower index first.

    Args:
        boxes: (n, 4), x1, y1, x2, y2 in pixels.
        scores: (n,).
        iou_threshold: a box is dropped when its IoU with a better box that is kept is greater than this.
        offset: 0 or 1, added to width and height; 1 when x2 and y2 are the last pixels inside the box.

    Returns:
        (kept,) int64.
    """
    boxes, scores = _same_dtype(boxes, scores)
    if offset:
        # the same widths, heights and overlaps as (x2 - x1 + offset); exact unless x2 + 1 passes a power of two
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision in double: there 0.6 is less than 0.6 in float32, an IoU of just as much
    kept: Tensor = _tv.nms(boxes, scores, torch.tensor(iou_threshold, dtype=boxes.dtype).item())
    return kept


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Indices of the boxes kept, in the order of their lowered scores (Bodla et al. 2017), on the CPU.

    Each box in turn lowers the scores of those after it; whichever falls below `min_score` is dropped.

    Args:
        boxes: (n, 4), x1, y1, x2, y2 in pixels.
        scores: (n,).
        dets: (n, 5), the first rows are written: a kept box and its score.
        iou_threshold: an IoU as great as this lowers a score, by 1 - IoU ("linear", 1) or to 0 ("naive", 0).
        sigma: of method 2, "gaussian": every score is lowered by exp(-IoU^2 / sigma).
        min_score: a score, 0 to 1.
        method: 0, 1 or 2.
        offset: as in `nms`.

    Returns:
        (kept,) int64.
    """
    left, scores = torch.arange(len(boxes)), scores.clone()
    kept: list[int] = []
    while len(left):
        best = int(scores[left].argmax())
        chosen = left[best]
        dets[len(kept)] = torch.cat([boxes[chosen], scores[chosen, None]])
        kept.append(int(chosen))
        left = torch.cat([left[:best], left[best + 1 :]])
        scores[left] *= _lowered(_overlap(boxes[chosen], boxes[left], offset), iou_threshold, sigma, method)
        left = left[scores[left] >= min_score]
    return torch.tensor(kept, dtype=torch.int64)


def _overlap(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of `box` (4,) with each of `boxes` (n, 4)."""
    shared = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0).prod(1)
    area, areas = (box[2:] - box[:2] + offset).prod(), (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
    return shared / (area + areas - shared)


def _lowered(overlap: Tensor, threshold: float, sigma: float, method: int) -> Tensor:
    if method == _GAUSSIAN:
        return torch.exp(-(overlap**2) / sigma)
    return torch.where(overlap >= threshold, 1 - overlap if method == _LINEAR else 0.0, 1.0)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign of `input` (n, c, h, w) at `rois` (k, 5: image, x1, y1, x2, y2) into `output` (k, c, ph, pw).

    Raises:
        NotImplementedError: pool_mode="max", which torchvision does not have.
    """
    if pool_mode != _AVERAGE:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' needs full mmcv with its compiled operators; torchvision has 'avg' only"
        )
    input, rois = _same_dtype(input, rois)
    output.copy_(_tv.roi_align(input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of RoIAlign: `grad_output` (k, c, ph, pw) into `grad_input` (n, c, h, w)."""
    grad, rois = _same_dtype(grad_output, rois)
    bins = (aligned_height, aligned_width)
    shape = grad_input.shape
    grad_input.copy_(_tv._roi_align_backward(grad, rois, spatial_scale, *bins, *shape, sampling_ratio, aligned))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool of `input` (n, c, h, w) at `rois` (k, 5) into `output` (k, c, ph, pw).

    `argmax` int32, of the shape of `output`, takes the place y * w + x of each maximum, -1 where the bin is empty.
    Rounded as in mmcv's kernel: the unrounded region, x1 to x2 + 1 of the image, is divided into bins, and a bin takes
    every cell that it touches. torchvision, which rounds corners to whole cells first, is given each bin by itself.
    """
    input, rois = _same_dtype(input, rois)
    bins = _whole_bins(rois, (pooled_height, pooled_width), spatial_scale)
    shape = (len(rois), pooled_height, pooled_width, input.shape[1])
    for given, found in zip((output, argmax), _tv.roi_pool(input, bins, 1.0, 1, 1), strict=True):
        given.copy_(found.reshape(shape).permute(0, 3, 1, 2))


def _whole_bins(rois: Tensor, bins: tuple[int, int], scale: float) -> Tensor:
    """(k * ph * pw, 5): image and first and last cell, x and y, of each bin; an empty bin lies outside the map."""
    starts, sides = rois[:, [2, 1]] * scale, (rois[:, [4, 3]] + 1) * scale - rois[:, [2, 1]] * scale  # y, x
    (top, down), (left, right) = (_edges(starts[:, i], sides[:, i], bins[i]) for i in (0, 1))
    shape = (len(rois), *bins)
    columns = (rois[:, 0, None, None], left[:, None], top[..., None], right[:, None], down[..., None])
    whole = torch.stack([c.expand(shape) for c in columns], -1)
    empty = (whole[..., 3] < whole[..., 1]) | (whole[..., 4] < whole[..., 2]) | (sides <= 0).any(1)[:, None, None]
    whole[..., 1:][empty] = _OUTSIDE
    return whole.reshape(-1, 5)


def _edges(start: Tensor, side: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """First and last cell of each bin of a region that begins at `start` (k,) and is `side` long; (k, bins) each."""
    numbers = torch.arange(bins + 1, device=start.device, dtype=start.dtype)
    edges = numbers * (side[:, None] / bins) + start[:, None]
    return edges[:, :-1].floor(), edges[:, 1:].ceil() - 1


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of RoIPool: `grad_output` (k, c, ph, pw) into the places `argmax` of `grad_input` (n, c, h, w)."""
    grad, rois = _same_dtype(grad_output, rois)
    bins = (pooled_height, pooled_width)
    grad_input.copy_(_tv._roi_pool_backward(grad, rois, argmax, spatial_scale, *bins, *grad_input.shape))


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of every logit, (n, classes), into `output` (n, classes).

    Args:
        input: (n, classes) logits.
        target: (n,) int64; `classes` (or -1) means background, no class at all.
        weight: (classes,), the weight of a row by its target (1 for background), or empty for none.
        output: (n, classes), written.
        gamma: exponent of the modulating factor.
        alpha: weight of the positives; 1 - alpha that of the negatives.
    """
    logits, positive, factor = _focal_terms(input, target, weight, alpha)
    # alpha=-1 is torchvision's "no balance": `factor` has it
    output.copy_(sigmoid_focal_loss(logits, positive.to(logits), alpha=-1, gamma=gamma) * factor)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of each loss of `sigmoid_focal_loss_forward` by its own logit into `grad_input` (n, classes).

    The closed form, not autograd: through torchvision's expression that is 0 * inf for a saturated logit and gamma < 1.
    """
    logits, positive, factor = _focal_terms(input, target, weight, alpha)
    signed = torch.where(positive, logits, -logits)  # the logit of the right answer: p_t = sigmoid(signed)
    right, wrong = signed.sigmoid(), (-signed).sigmoid()
    slope = wrong**gamma * (gamma * right * logsigmoid(signed) - wrong)
    grad_input.copy_(torch.where(positive, slope, -slope) * factor)


def get_compiler_version() -> str:
    """What mmcv prints as the compiler of its operators."""
    return f"not compiled (operators of torchvision {torchvision.__version__})"


def get_compiling_cuda_version() -> str:
    """The CUDA release that torch, and so torchvision, was built with, or mmcv's "not available"."""
    return torch.version.cuda or "not available"


def _same_dtype(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider dtype of the two, float32 at least."""
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    return first.to(dtype), second.to(dtype)


def _focal_terms(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float32 at least, which of them are the target's, and what each loss is multiplied by; (n, classes)."""
    logits = input.to(torch.promote_types(input.dtype, torch.float32))
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    factor = torch.full_like(logits, 1 - alpha).masked_fill(positive, alpha)
    if weight.numel():
        # one place more, the background's: index `classes` and, from behind, -1
        factor = factor * pad(weight.to(logits), (0, 1), value=1.0)[target][:, None]
    return logits, positive, factor
