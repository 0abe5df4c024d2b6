"""The generator: its flow is the motion that the images show, its occlusions are those of the layers."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter
from torch.nn import functional

from nmbench_tasks._shared import affine
from nmbench_tasks.optical_flow import cutouts, embedded


@pytest.fixture(scope="module")
def some() -> list[embedded.Scene]:
    found = []
    for split in ("train", "val"):
        found += list(itertools.islice(embedded.scenes(split), 8))
    return found


def warped(second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`second` sampled where `flow` leads, (height, width, 3)."""
    height, width = flow.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([(x + flow[0] + 0.5) / width, (y + flow[1] + 0.5) / height], dim=-1) * 2 - 1
    image = torch.from_numpy(second).permute(2, 0, 1)[None].float()
    sampled = functional.grid_sample(image, place[None].float(), mode="bicubic", align_corners=False)
    return sampled[0].permute(1, 2, 0).numpy()


def difference(scene: embedded.Scene) -> np.ndarray:
    return np.abs(warped(scene.second, scene.flow) - scene.first).mean(axis=-1)


def away_from_edges(scene: embedded.Scene) -> np.ndarray:
    """What is not occluded and has one layer only within 5 px: a soft edge mixes two motions."""
    one_layer = minimum_filter(scene.layers, 11) == maximum_filter(scene.layers, 11)
    return one_layer & ~binary_dilation(scene.occluded, np.ones((9, 9), dtype=bool))


def test_the_second_image_sampled_at_the_flow_reproduces_the_first(some):
    """Away from edges at least 97 % within 10 grey levels; of all that is not occluded 93 % within 12."""
    for scene in some:
        off = difference(scene)
        assert (off[away_from_edges(scene)] < 10).mean() > 0.97
        assert (off[~scene.occluded] < 12).mean() > 0.93
        assert np.median(off[~scene.occluded]) < 2.5


def test_occlusion_is_that_of_the_layers_on_top(some):
    """A pixel of the uppermost layer is hidden by nothing: it is occluded only where it leaves the image."""
    for scene in some:
        top = scene.layers == scene.layers.max()
        target = affine.pixel_centres(embedded.HEIGHT, embedded.WIDTH) + np.moveaxis(scene.flow, 0, -1)
        outside = ((target < 0) | (target > [embedded.WIDTH, embedded.HEIGHT])).any(axis=-1)
        assert np.array_equal(scene.occluded[top], outside[top])


def test_train_and_val_share_no_pixel_of_a_photograph():
    for (a, b), (c, d) in zip(embedded.REGIONS["train"], embedded.REGIONS["val"], strict=True):
        assert a < b <= c < d or c < d <= a < b


def test_no_scene_looks_beyond_its_region(monkeypatch):
    """A region of pure red among green: a scene from it shows no green, so it never left the region."""
    from PIL import Image

    stripes = np.zeros((427, 320, 3), dtype=np.uint8)
    stripes[..., 0] = np.random.default_rng(0).integers(100, 255, (427, 320))
    wide = Image.fromarray(stripes)
    for seed in range(6):
        scene = embedded.compose(np.random.default_rng(seed), [wide])
        for image in (scene.first, scene.second):  # PIL fills with black what lies outside
            assert image[..., 0].min() > 30
            assert image[..., 1:].max() == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(5, 60))
def test_a_cutout_is_opaque_inside_and_reaches_no_farther_than_it_says(seed, radius):
    shape = cutouts.random_cutout(np.random.default_rng(seed), np.array([3.0, -7.0]), radius)
    angle = np.linspace(0, 2 * np.pi, 90)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert shape.opacity(shape.centre[None]).item() > 0.5
    assert shape.opacity(shape.centre + shape.reach * 1.001 * ring).max() == 0.0
    alpha = shape.opacity(shape.centre + radius * np.random.default_rng(seed).uniform(0, 2, (90, 1)) * ring)
    assert ((alpha >= 0) & (alpha <= 1)).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_affine_maps_do_what_they_say(seed):
    rng = np.random.default_rng(seed)
    source, target, shift = rng.uniform(-50, 50, (3, 2))
    scale, angle = rng.uniform(0.3, 3), rng.uniform(-3, 3)
    matrix = affine.similarity(scale, angle, source, target)
    assert np.allclose(affine.apply(matrix, source), target)
    step = affine.apply(matrix, source + np.array([1.0, 0.0])) - target
    assert np.isclose(np.hypot(*step), scale)
    assert np.isclose(np.cos(np.arctan2(step[1], step[0]) - angle), 1)
    moved = affine.motion(source, shift, angle, np.array([1.1, 0.9]), 0.05)
    assert np.allclose(affine.apply(moved, source), source + shift)
