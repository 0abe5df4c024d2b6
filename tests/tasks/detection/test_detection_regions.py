"""RoIAlign, RoIPool and the focal loss by torchvision in place of mmcv's, each against a reference written here."""

import math
from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

pytest.importorskip("mmcv")

from nmbench_tasks.detection.engine import install

if install() != "torchvision":
    pytest.skip("full mmcv serves its operators itself", allow_module_level=True)

import mmcv.ops

# (image, x1, y1, x2, y2) in the units of the input: inside, across the border, outside, thinner than a bin
ROIS = [[0, 2.3, 1.1, 14.7, 12.9], [1, -3.0, 5.2, 9.4, 21.3], [1, 8.1, 0.4, 8.9, 15.8], [0, 30.0, 30.0, 40.0, 41.0]]
SCALE = 0.5


def features(dtype: torch.dtype = torch.float64, grad: bool = False) -> Tensor:
    """(2, 3, 8, 9)"""
    values = torch.randn(2, 3, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return values.to(dtype).requires_grad_(grad)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    down, right = y - top, x - left
    over = plane[top, left] * (1 - right) + plane[top, left + 1] * right
    under = plane[top + 1, left] * (1 - right) + plane[top + 1, left + 1] * right
    return float(over * (1 - down) + under * down)


def slow_roi_align(maps: Tensor, rois: Tensor, bins: tuple[int, int], ratio: int, aligned: bool) -> Tensor:
    """The mean of bilinear samples on a regular grid in each bin (Mask R-CNN, section 3)."""
    out = torch.zeros(len(rois), maps.shape[1], *bins, dtype=torch.float64)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * SCALE - (0.5 if aligned else 0.0) for c in corners)
        sides = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        step = [side / n for side, n in zip(sides, bins, strict=True)]
        grid = [ratio if ratio > 0 else math.ceil(s) for s in step]
        for channel, row, column in product(range(maps.shape[1]), range(bins[0]), range(bins[1])):
            ys = [y1 + (row + (i + 0.5) / grid[0]) * step[0] for i in range(grid[0])]
            xs = [x1 + (column + (j + 0.5) / grid[1]) * step[1] for j in range(grid[1])]
            samples = [bilinear(maps[int(image), channel], y, x) for y in ys for x in xs]
            out[k, channel, row, column] = sum(samples) / len(samples)
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_is_the_mean_of_bilinear_samples(aligned, ratio):
    rois = torch.tensor(ROIS, dtype=torch.float64)
    layer = mmcv.ops.RoIAlign((3, 2), SCALE, ratio, aligned=aligned)
    expected = slow_roi_align(features(), rois, (3, 2), ratio, aligned)
    assert (expected[:3] != 0).all((1, 2, 3)).any()
    assert not expected[3].any()  # all outside
    torch.testing.assert_close(layer(features(), rois), expected, rtol=1e-12, atol=1e-12)


def slow_roi_pool(maps: Tensor, rois: Tensor, bins: tuple[int, int], scale: float = SCALE) -> Tensor:
    """The maximum of the cells that a bin touches, 0 where there is none; x2 and y2 are the last pixels inside."""
    out = torch.zeros(len(rois), maps.shape[1], *bins, dtype=maps.dtype)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (Fraction(c) * Fraction(scale) for c in (*corners[:2], corners[2] + 1, corners[3] + 1))
        for row, column in product(range(bins[0]), range(bins[1])):
            spans = []
            for first, side, place, n, cells in ((y1, y2 - y1, row, bins[0], 8), (x1, x2 - x1, column, bins[1], 9)):
                edges = math.floor(place * side / n + first), math.ceil((place + 1) * side / n + first)
                spans.append(slice(*(min(max(edge, 0), cells) for edge in edges)))
            cells = maps[int(image), :, spans[0], spans[1]]
            if cells.numel() and x2 > x1 and y2 > y1:
                out[k, :, row, column] = cells.amax((1, 2))
    return out


def test_roi_pool_is_the_maximum_of_each_bin():
    rois = torch.tensor(ROIS, dtype=torch.float64)
    pooled = mmcv.ops.RoIPool((3, 2), SCALE)(features(), rois)
    assert torch.equal(pooled, slow_roi_pool(features(), rois, (3, 2)))
    assert not pooled[3].any()  # all outside


@pytest.mark.parametrize("scale", [1.0, 0.25, 1 / 16])
def test_roi_pool_rounds_at_the_strides_of_features_as_mmcv_does(scale):
    corners = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 12 - 2
    sides = (
        torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 9 - 2
    )  # some turned over
    rois = torch.cat([torch.arange(40)[:, None] % 2, corners / scale, (corners + sides) / scale], 1)
    assert torch.equal(
        mmcv.ops.roi_pool(features(), rois, (3, 2), scale), slow_roi_pool(features(), rois, (3, 2), scale)
    )


def test_roi_pool_of_a_turned_over_region_is_nothing_and_trains_nothing():
    maps = features(grad=True)
    pooled = mmcv.ops.roi_pool(maps, torch.tensor([[0, 2.5, 2, 1.3, 6]], dtype=torch.float64), (3, 2), 1.0)
    pooled.sum().backward()
    assert not pooled.any()
    assert not maps.grad.any()


@pytest.mark.parametrize(
    "layer",
    [
        *(mmcv.ops.RoIAlign((3, 2), SCALE, ratio, aligned=aligned) for ratio in (0, 2) for aligned in (True, False)),
        mmcv.ops.RoIPool((3, 2), SCALE),
    ],
)
def test_gradients_of_roi_operators(layer):
    rois = torch.tensor(ROIS, dtype=torch.float64)
    assert gradcheck(lambda maps: layer(maps, rois), features(grad=True))


@pytest.mark.parametrize("layer", [mmcv.ops.RoIAlign((3, 2), SCALE), mmcv.ops.RoIPool((3, 2), SCALE)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_roi_operators_of_16_bits_round_only_the_result(layer, dtype):
    maps = features(dtype).requires_grad_()
    rois = torch.tensor(ROIS, dtype=torch.float64).to(dtype)
    pooled = layer(maps, rois)  # mmdet hands over regions in the dtype of the maps
    exact_maps = maps.detach().float().requires_grad_()
    exact = layer(exact_maps, rois.float())
    assert pooled.dtype is dtype
    assert torch.equal(pooled, exact.to(dtype))
    (grad,) = torch.autograd.grad(pooled.sum(), maps)
    assert torch.equal(grad, torch.autograd.grad(exact.sum(), exact_maps)[0].to(dtype))


@pytest.mark.parametrize("layer", [mmcv.ops.RoIAlign((3, 2), SCALE), mmcv.ops.RoIPool((3, 2), SCALE)])
def test_roi_operators_of_no_region(layer):
    maps = features(grad=True)
    pooled = layer(maps, torch.zeros(0, 5, dtype=torch.float64))
    assert pooled.shape == (0, 3, 3, 2)
    pooled.sum().backward()
    assert torch.equal(maps.grad, torch.zeros_like(maps))


GAMMA, ALPHA = 1.7, 0.3
CLASSES = 3
TARGET = torch.tensor([0, 2, 3, 1, -1])  # 3 and -1: background
WEIGHT = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)


def logits() -> Tensor:
    return torch.randn(5, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3


def focal(values: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017, equation 5), number by number."""
    table = torch.zeros(5, CLASSES, dtype=torch.float64)
    for row, column in product(range(5), range(CLASSES)):
        p = 1 / (1 + math.exp(-values[row, column]))
        positive = int(TARGET[row]) == column
        p_t, alpha_t = (p, ALPHA) if positive else (1 - p, 1 - ALPHA)
        known = weight is not None and 0 <= TARGET[row] < CLASSES
        table[row, column] = (
            -(float(weight[TARGET[row]]) if known else 1) * alpha_t * (1 - p_t) ** GAMMA * math.log(p_t)
        )
    return {"none": table, "sum": table.sum(), "mean": table.sum() / 5}[reduction]  # mmcv: the mean over rows


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_focal_loss_is_its_formula(weight, reduction):
    loss = mmcv.ops.sigmoid_focal_loss(logits(), TARGET, GAMMA, ALPHA, weight, reduction)
    torch.testing.assert_close(loss, focal(logits(), weight, reduction), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, GAMMA, 2.0])
def test_focal_loss_gradient(weight, reduction, gamma):
    layer = mmcv.ops.SigmoidFocalLoss(gamma, ALPHA, weight, reduction)
    assert gradcheck(lambda values: layer(values, TARGET), logits().requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_a_saturated_logit_is_finite(gamma):
    values = torch.tensor([[60.0, -60.0, 200.0], [-60.0, 60.0, -200.0]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(values, torch.tensor([0, 0]), gamma, 0.25, None, "none")
    (grad,) = torch.autograd.grad(loss.sum(), values)
    # positive: -alpha x and -alpha; negative: (1 - alpha) x and 1 - alpha; nothing where the answer is right
    torch.testing.assert_close(loss, torch.tensor([[0, 0, 150.0], [15, 45, 0]]))
    torch.testing.assert_close(grad, torch.tensor([[0, 0, 0.75], [-0.25, 0.75, 0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_focal_loss_of_16_bits_rounds_only_the_result(dtype):
    values = logits().to(dtype).requires_grad_()
    exact_values = values.detach().float().requires_grad_()
    loss, exact = (mmcv.ops.sigmoid_focal_loss(v, TARGET, 2.0, 0.25, None, "none") for v in (values, exact_values))
    assert loss.dtype is dtype
    assert torch.equal(loss, exact.to(dtype))
    (grad,) = torch.autograd.grad(loss.sum(), values)
    assert torch.equal(grad, torch.autograd.grad(exact.sum(), exact_values)[0].to(dtype))
