"""Augmentation: the flow goes with the images, gaps are kept, everything comes from one seed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmbench_tasks.optical_flow import colour, spatial
from nmbench_tasks.optical_flow.data import Augmented
from nmbench_tasks.optical_flow.prepare import Part
from nmbench_tasks.optical_flow.scales import RECIPES
from nmbench_tasks.optical_flow.sets import FlowSet, Pair


def shifted_pair(seed=0, size=(40, 48), shift=(3, -2)) -> Pair:
    """A pair whose second image is the first one moved by `shift` (x, y), with that flow everywhere."""
    first = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8))
    second = torch.roll(first, (shift[1], shift[0]), dims=(1, 2))
    flow = torch.tensor(shift, dtype=torch.float32)[:, None, None].expand(2, *size).contiguous()
    return Pair(first, second, flow, torch.ones(size, dtype=torch.bool))


def agrees(pair: Pair) -> float:
    """Share of the pixels whose flow, rounded, leads to their own colour in the second image."""
    height, width = pair.valid.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    to_x, to_y = (x + pair.flow[0]).round().long(), (y + pair.flow[1]).round().long()
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height) & pair.valid
    found = pair.second[:, to_y.clamp(0, height - 1), to_x.clamp(0, width - 1)]
    return (found == pair.first).all(0)[inside].float().mean().item()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), across=st.booleans(), down=st.booleans(), top=st.integers(0, 8))
def test_mirrors_and_crops_keep_image_and_flow_together(seed, across, down, top):
    shift = np.random.default_rng(seed).integers(-4, 5, 2)
    pair = shifted_pair(seed, shift=(int(shift[0]), int(shift[1])))
    assert agrees(pair) > 0.6  # torch.roll wraps round at the border
    moved = spatial.mirror(spatial.crop(pair, top, 5, (28, 36)), across, down)
    assert agrees(moved) == 1.0 or agrees(moved) >= agrees(pair)
    assert moved.flow.shape == (2, 28, 36)
    again = spatial.mirror(moved, across, down)
    assert all(torch.equal(a, b) for a, b in zip(again, spatial.crop(pair, top, 5, (28, 36)), strict=True))


def test_a_zoom_scales_the_flow_by_axis():
    zoomed = spatial.zoom(shifted_pair(shift=(3, -2)), (80, 144), sparse=False)
    assert zoomed.first.shape == (3, 80, 144)
    assert torch.allclose(zoomed.flow[0], torch.tensor(9.0))
    assert torch.allclose(zoomed.flow[1], torch.tensor(-4.0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(20, 90), width=st.integers(20, 90))
def test_a_flow_with_gaps_is_moved_never_mixed(seed, height, width):
    rng = np.random.default_rng(seed)
    pair = shifted_pair(seed)
    valid = torch.from_numpy(rng.random((40, 48)) < 0.1)
    flow = torch.from_numpy(rng.choice([-7.0, 5.0], (2, 40, 48)).astype(np.float32))
    zoomed = spatial.zoom(pair._replace(flow=flow, valid=valid), (height, width), sparse=True)
    assert 0 < zoomed.valid.sum() <= valid.sum()
    for component, factor in ((0, width / 48), (1, height / 40)):
        values = zoomed.flow[component][zoomed.valid] / factor
        assert torch.isclose(values[:, None], torch.tensor([-7.0, 5.0]), atol=1e-3).any(1).all()
    assert (zoomed.flow[:, ~zoomed.valid] == 0).all()
    if height >= 40 and width >= 48:
        assert zoomed.valid.sum() == valid.sum()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_small_pair_is_zoomed_until_the_crop_fits(sparse):
    for seed in range(20):
        zoomed = spatial.random_zoom(shifted_pair(), np.random.default_rng(seed), (64, 56), (-1.0, 0.1), sparse)
        assert zoomed.valid.shape[0] >= 64
        assert zoomed.valid.shape[1] >= 56
    with pytest.raises(ValueError, match="does not fit"):
        spatial.random_crop(shifted_pair(), np.random.default_rng(0), (64, 40))


def test_colours_change_alike_or_not():
    pair = shifted_pair()
    differ = 0
    for seed in range(60):
        first, second = colour.jitter(pair.first, pair.first, np.random.default_rng(seed), sparse=False)
        assert first.dtype == torch.uint8
        differ += not torch.equal(first, second)
        again = colour.jitter(pair.first, pair.first, np.random.default_rng(seed), sparse=False)
        assert torch.equal(again[0], first)
    assert 4 <= differ <= 24  # a fifth of them
    for seed in range(20):
        first, second = colour.jitter(pair.first, pair.first, np.random.default_rng(seed), sparse=True)
        assert torch.equal(first, second)
        assert not torch.equal(first, pair.first)


def test_half_of_the_second_images_lose_a_rectangle():
    original = shifted_pair(size=(384, 400)).second
    copy = original.clone()
    mean = original.float().mean((1, 2)).round().to(torch.uint8)
    changed = [colour.erase(original, np.random.default_rng(seed)) for seed in range(60)]
    assert torch.equal(original, copy)
    masks = [(one != original).any(0) for one in changed]
    hit = [(one, mask) for one, mask in zip(changed, masks, strict=True) if mask.any()]
    assert 20 <= len(hit) <= 40
    for one, mask in hit:
        assert (one[:, mask] == mean[:, None]).all()
        assert mask.sum() <= 2 * 100 * 100


class Fixed:
    """Stands for torchvision's data set."""

    def __init__(self, pairs):
        self.pairs = pairs
        self._image_list = [[f"{i}_a", f"{i}_b"] for i in range(len(pairs))]
        self._flow_list = [f"{i}_f" for i in range(len(pairs))]


class Ready(FlowSet):
    def __getitem__(self, place):
        return self.dataset.pairs[self.rows[place]]


def augmented(augment="raft", sparse=False, repeats=(1,), size=(32, 32)) -> Augmented:
    """Parts of three pairs each; those of part n move by (3 + n, -2)."""
    parts = []
    for number, repeat in enumerate(repeats):
        pairs = Fixed([shifted_pair(10 * number + i, shift=(3 + number, -2)) for i in range(3)])
        parts.append(Part(Ready(f"part{number}", pairs, range(3), sparse), repeat, (-0.2, 0.5)))
    return Augmented(
        parts, RECIPES["chairs"].model_copy(update={"crop_height": size[0], "crop_width": size[1]}), augment
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("augment", ["raft", "light"])
def test_augmentation_is_a_function_of_place_and_seed(augment, sparse):
    pairs = augmented(augment, sparse)
    torch.manual_seed(0)
    first = pairs[1, 77]
    before = torch.get_rng_state()
    torch.rand(5)
    again = pairs[1, 77]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(first.first, pairs[1, seed].first) for seed in range(5))
    torch.manual_seed(0)
    pairs[1, 78]
    assert torch.equal(torch.get_rng_state(), before), "it drew from the global generator"
    assert first.first.shape == (3, 32, 32)


def test_each_part_comes_as_often_as_it_says():
    pairs = augmented("light", repeats=(1, 4, 2))
    assert len(pairs) == 3 + 12 + 6
    seen = [int(pairs[place, 0].flow[0].abs().max()) - 3 for place in range(len(pairs))]
    assert seen == [0] * 3 + [1] * 12 + [2] * 6
