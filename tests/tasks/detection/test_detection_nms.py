"""Non-maximum suppression by torchvision in place of mmcv's, against exact arithmetic."""

import math
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("mmcv")

from nmbench_tasks.detection.engine import install

if install() != "torchvision":
    pytest.skip("full mmcv serves its operators itself", allow_module_level=True)

import mmcv.ops

EXT = sys.modules["mmcv._ext"]


def kept(boxes: list[tuple[int, ...]], scores: list[float], threshold: Fraction, offset: int, unit: int) -> list[int]:
    """Greedy suppression in exact arithmetic; corners in 1/`unit` pixels."""
    offset *= unit
    keep: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable: of equals the first
        if not any(_above(boxes[better], boxes[index], threshold, offset) for better in keep):
            keep.append(index)
    return keep


def _above(a: tuple[int, ...], b: tuple[int, ...], threshold: Fraction, offset: int) -> bool:
    sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset) for i in (0, 1)]
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    shared = math.prod(sides)
    return shared > threshold * (sum(areas) - shared)


# corners on a coarse grid, so that equal boxes, empty boxes and IoUs that equal the threshold are common
corner, size = st.integers(0, 12), st.integers(0, 12)
box = st.tuples(corner, corner, size, size).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
# (box, score in eighths so that equal scores are common, class)
rows = st.lists(st.tuples(box, st.integers(1, 8), st.integers(0, 2)), max_size=24)
twentieths = st.integers(1, 19)


def tensors(found: list[tuple], unit: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    boxes = torch.tensor([row[0] for row in found], dtype=dtype).reshape(-1, 4) / unit
    return boxes, torch.tensor([row[1] / 8 for row in found], dtype=dtype), torch.tensor([row[2] for row in found])


@settings(max_examples=200, deadline=None)
@given(found=rows, threshold=twentieths, offset=st.sampled_from([0, 1]), unit=st.sampled_from([1, 4]),
       dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))  # fmt: skip
def test_nms_is_greedy_suppression(found, threshold, offset, unit, dtype):
    boxes, scores, _ = tensors(found, unit, dtype)
    dets, keep = mmcv.ops.nms(boxes, scores, threshold / 20, offset=offset)
    expected = kept([row[0] for row in found], [row[1] for row in found], Fraction(threshold, 20), offset, unit)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[expected])


def test_nms_takes_scores_of_another_dtype():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [8, 8, 9, 9]])
    scores = torch.tensor([0.25, 0.5, 0.125], dtype=torch.float16)
    assert EXT.nms(boxes, scores, iou_threshold=0.5, offset=0).tolist() == [1, 2]


@settings(max_examples=100, deadline=None)
@given(found=rows, threshold=twentieths, offset=st.sampled_from([0, 1]), agnostic=st.booleans())
def test_batched_nms_suppresses_within_a_class(found, threshold, offset, agnostic):
    found = found or [((0, 0, 1, 1), 1, 0)]  # mmcv takes the largest coordinate, so there must be one
    boxes, scores, classes = tensors(found, unit=4)
    config = {"type": "nms", "iou_threshold": threshold / 20, "offset": offset}
    dets, keep = mmcv.ops.batched_nms(boxes, scores, classes, config, class_agnostic=agnostic)
    groups = [range(len(found))] if agnostic else [[i for i, row in enumerate(found) if row[2] == c] for c in range(3)]
    expected = []
    for group in groups:
        chosen = kept([found[i][0] for i in group], [found[i][1] for i in group], Fraction(threshold, 20), offset, 4)
        expected += [group[i] for i in chosen]
    expected.sort(key=lambda i: (-found[i][1], i))
    assert keep.tolist() == expected
    assert torch.equal(dets[:, :4], boxes[expected])
    assert torch.equal(dets[:, 4], scores[expected])


def test_batched_nms_of_many_boxes_goes_class_by_class_with_the_same_result():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(400, 2, generator=generator) * 30
    boxes = torch.cat([corners, corners + 1 + torch.rand(400, 2, generator=generator) * 9], 1)
    scores, classes = torch.rand(400, generator=generator), torch.randint(0, 4, (400,), generator=generator)
    whole, parts = (
        mmcv.ops.batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.3, "split_thr": split})[1]
        for split in (10000, 10)
    )
    assert 0 < len(whole) < 400
    assert torch.equal(whole, parts)


def softly(found: list[tuple], unit: int, method: str, threshold: float, floor: float, offset: int) -> list[tuple]:
    """(index, lowered score) box by box; corners in 1/`unit` pixels."""
    left, kept = {i: row[1] / 8 for i, row in enumerate(found)}, []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        kept.append((best, left.pop(best)))
        for i in list(left):
            iou = _iou(found[best][0], found[i][0], offset * unit)
            drop = {"naive": 0.0, "linear": 1 - iou, "gaussian": math.exp(-(iou**2) / 0.5)}[method]
            left[i] *= drop if method == "gaussian" or iou >= threshold else 1
            if left[i] < floor:
                del left[i]
    return kept


def _iou(a: tuple[int, ...], b: tuple[int, ...], offset: int) -> float:
    shared = math.prod(max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset) for i in (0, 1))
    return shared / (sum((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)) - shared)


@settings(max_examples=60, deadline=None)
@given(found=rows, method=st.sampled_from(["naive", "linear", "gaussian"]), floor=st.sampled_from([1e-3, 0.3]))
def test_soft_nms_lowers_the_scores_of_what_overlaps(found, method, floor):
    boxes, scores, _ = tensors(found, unit=4, dtype=torch.float64)
    before = boxes.clone(), scores.clone()
    dets, keep = mmcv.ops.soft_nms(boxes, scores, 0.37, sigma=0.5, min_score=floor, method=method, offset=1)
    expected = softly(found, 4, method, 0.37, floor, 1)
    assert keep.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets, torch.cat([boxes[keep], dets.new_tensor([s for _, s in expected])[:, None]], 1))
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])
