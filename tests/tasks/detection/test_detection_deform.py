"""Deformable convolution by torchvision in place of mmcv's, against the sum over bilinear samples written here."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

pytest.importorskip("mmcv")

from nmbench_tasks.detection.engine import install

if install() != "torchvision":
    pytest.skip("full mmcv serves its operators itself", allow_module_level=True)

import mmcv.cnn
import mmcv.ops

from nmbench.sparsity import cost

STRIDE, PADDING, DILATION = (2, 1), (1, 0), (1, 2)  # y, x: each different, so that none can be taken for another
GEOMETRY = (STRIDE, PADDING, DILATION)
GROUPS, OFFSET_GROUPS = 2, 2


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operands() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """input (2, 4, 5, 7), offset (2, 24, 3, 5), mask (2, 12, 3, 5), weight (6, 2, 3, 2), bias (6,)"""
    offset = noise(2, 2 * OFFSET_GROUPS * 6, 3, 5, seed=1) * 1.5
    mask = noise(2, OFFSET_GROUPS * 6, 3, 5, seed=2).sigmoid()
    return noise(2, 4, 5, 7, seed=0), offset, mask, noise(6, 2, 3, 2, seed=3), noise(6, seed=4)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """Zero outside the plane, and zero mixed in at its border."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, column in product((top, top + 1), (left, left + 1)):
        if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
            total += float(plane[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def slow(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = torch.zeros(2, 6, 3, 5, dtype=torch.float64)
    for n, o, row, column in product(range(2), range(6), range(3), range(5)):
        total = 0.0 if bias is None else float(bias[o])
        for c, i, j in product(range(2), range(3), range(2)):
            channel = o // 3 * 2 + c
            place = channel // 2 * 6 + i * 2 + j
            y = row * STRIDE[0] - PADDING[0] + i * DILATION[0] + float(offset[n, 2 * place, row, column])
            x = column * STRIDE[1] - PADDING[1] + j * DILATION[1] + float(offset[n, 2 * place + 1, row, column])
            factor = 1.0 if mask is None else float(mask[n, place, row, column])
            total += float(weight[o, c, i, j]) * factor * bilinear(input[n, channel], y, x)
        out[n, o, row, column] = total
    return out


def test_deform_conv_is_the_sum_over_displaced_samples():
    input, offset, _, weight, _ = operands()
    found = mmcv.ops.deform_conv2d(input, offset, weight, *GEOMETRY, GROUPS, OFFSET_GROUPS)
    torch.testing.assert_close(found, slow(input, offset, None, weight, None), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("biased", [True, False])
def test_modulated_deform_conv_weighs_each_sample(biased):
    input, offset, mask, weight, bias = operands()
    bias = bias if biased else None
    found = mmcv.ops.modulated_deform_conv2d(input, offset, mask, weight, bias, *GEOMETRY, GROUPS, OFFSET_GROUPS)
    torch.testing.assert_close(found, slow(input, offset, mask, weight, bias), rtol=1e-12, atol=1e-12)


def test_gradients_of_both():
    input, offset, mask, weight, bias = (t.requires_grad_() for t in operands())
    more = (*GEOMETRY, GROUPS, OFFSET_GROUPS)
    assert gradcheck(lambda *t: mmcv.ops.deform_conv2d(*t, *more), (input, offset, weight), fast_mode=True)
    for last in (bias, None):
        given = (input, offset, mask, weight, last)
        assert gradcheck(lambda *t: mmcv.ops.modulated_deform_conv2d(*t, *more), given, fast_mode=True)


def test_of_a_larger_offset_and_mask_the_first_numbers_of_each_image_are_read():
    input, offset, mask, weight, bias = operands()
    larger = [
        torch.cat([t.flatten(1), noise(2, t[0].numel(), seed=5)], 1).view(2, -1, 6, 5).requires_grad_()
        for t in (offset, mask)
    ]
    more = (*GEOMETRY, GROUPS, OFFSET_GROUPS)
    found = mmcv.ops.modulated_deform_conv2d(input, *larger, weight, bias, *more)
    torch.testing.assert_close(found, slow(input, offset, mask, weight, bias), rtol=1e-12, atol=1e-12)
    plain = mmcv.ops.deform_conv2d(input, larger[0], weight, *more)
    torch.testing.assert_close(plain, slow(input, offset, None, weight, None), rtol=1e-12, atol=1e-12)
    given = (input, *larger, weight, bias)
    assert gradcheck(lambda *t: mmcv.ops.modulated_deform_conv2d(*t, *more), given, fast_mode=True)
    assert gradcheck(lambda *t: mmcv.ops.deform_conv2d(*t, *more), (input, larger[0], weight), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_round_only_the_result(dtype):
    low = [t.to(dtype).requires_grad_() for t in operands()]
    exact = [t.detach().float().requires_grad_() for t in low]
    out, expected = (mmcv.ops.modulated_deform_conv2d(*t, *GEOMETRY, GROUPS, OFFSET_GROUPS) for t in (low, exact))
    assert torch.equal(out, expected.to(dtype))
    grads, references = (torch.autograd.grad(o.sum(), t) for o, t in ((out, low), (expected, exact)))
    assert all(torch.equal(g, r.to(dtype)) for g, r in zip(grads, references, strict=True))


@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_without_displacement_it_is_the_ordinary_convolution_and_its_macs_are_counted(kind):
    layer = mmcv.cnn.build_conv_layer({"type": kind, "deform_groups": 1}, 4, 6, 3, padding=1, bias=False)
    plain = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    plain.load_state_dict({"weight": layer.weight})
    image = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    gain = 0.5 if kind == "DCNv2" else 1  # a mask of sigmoid(0)
    torch.testing.assert_close(layer(image), gain * plain(image))
    [line] = [line for line in cost(layer, (image,)).layers if line.name == "weight"]
    assert line.macs == cost(plain, (image,)).macs_dense == 25 * 6 * 36
