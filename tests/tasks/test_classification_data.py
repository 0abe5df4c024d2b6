"""Order and augmentation are functions of (seed, epoch, index), whatever draws elsewhere."""

import functools
import hashlib
import itertools
import math

import pytest
import torch

from nmbench_tasks.classification import data, train
from nmbench_tasks.classification.data import EpochKeys, Examples, batches
from nmbench_tasks.classification.scales import SCALES, Settings


def examples_of(run, split="train"):
    return Examples(run.data.path, split, Settings.of(run.spec))


def batches_of(run, epochs=2, skip=0, workers=0) -> list[str]:
    """The hash of every batch (images and labels) of `run`."""
    examples = examples_of(run)
    found = []
    for epoch in range(epochs):
        keys = EpochKeys(run, epoch, len(examples), len(examples), skip)
        for images, labels in batches(examples, keys, 20, workers):
            found.append(hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest())
    return found


@pytest.mark.parametrize("transform", ["digits", "imagenet"])
def test_worker_processes_change_nothing(make_run, spec_of, transform):
    run = make_run(spec_of(transform=transform))
    assert batches_of(run, workers=2) == batches_of(run, workers=0)


def test_a_resumed_epoch_goes_on_where_it_was(make_run):
    run = make_run()
    assert batches_of(run, epochs=1, skip=40) == batches_of(run, epochs=1)[2:]


def test_every_image_comes_once_an_epoch_in_another_order_and_augmentation(make_run):
    first, second = (list(EpochKeys(make_run(), epoch, 50, 50)) for epoch in (0, 1))
    assert sorted(index for index, _ in first) == list(range(50))
    assert len({seed for _, seed in first}) == 50
    assert [index for index, _ in first] != [index for index, _ in second]
    assert not set(first) & set(second)


@pytest.mark.parametrize("transform", ["digits", "imagenet"])
def test_augmentation_depends_on_the_seed_and_is_for_training_only(make_run, spec_of, transform):
    run = make_run(spec_of(transform=transform))
    training, test = (examples_of(run, split) for split in ("train", "val"))
    assert torch.equal(training[3, 7][0], training[3, 7][0])
    assert any(not torch.equal(training[3, 7][0], training[3, seed][0]) for seed in range(5))
    assert all(torch.equal(test[3, 7][0], test[3, seed][0]) for seed in range(5))


def test_digits_are_never_mirrored(make_run):
    """A shift by at most 2 px keeps the middle: some shift of the original equals it, and no mirror image does."""
    run = make_run()
    plain = examples_of(run)
    plain.transform = torch.nn.Identity()
    shifted = examples_of(run)
    whole = plain[4, 0][0]
    offsets = list(itertools.product(range(5), range(5)))
    for seed in range(8):
        middle = shifted[4, seed][0][:, 2:-2, 2:-2]
        assert any(torch.equal(middle, whole[:, y : y + 28, x : x + 28]) for y, x in offsets)
        assert not any(torch.equal(middle.flip(-1), whole[:, y : y + 28, x : x + 28]) for y, x in offsets)


@pytest.mark.parametrize("wanted", [60, 95, 0, 10**9])
def test_a_subset_is_even_over_the_classes(make_run, spec_of, embedded, wanted):
    examples = Examples(embedded.path, "val", Settings.of(spec_of(val_images=wanted)))
    counts = torch.bincount(torch.tensor([label for _, label in examples.samples]), minlength=10)
    assert len(examples) == (wanted if 0 < wanted < embedded.counts["val"] else embedded.counts["val"])
    assert counts.max() - counts.min() <= 1


def test_learning_rate_warms_up_and_ends_at_zero():
    settings = Settings(lr=0.1, warmup_epochs=0.5, epochs=4)
    rates = [train.learning_rate(step, 10, settings) for step in range(40)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[4] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[5:]))
    assert 0 < rates[-1] < 0.001
    assert train.learning_rate(0, 10, settings.model_copy(update={"warmup_epochs": 0})) == 0.1
    assert train.learning_rate(3, 10, settings.model_copy(update={"warmup_epochs": 99})) > 0


def test_at_the_scale_of_the_paper_the_rates_are_the_authors_step_by_step():
    settings = Settings.model_validate(SCALES["paper"])
    rate = functools.partial(train.learning_rate, steps_per_epoch=5004, settings=settings)
    warmup, whole = 5 * 5004, 120 * 5004
    assert rate(0) == 0
    assert rate(1) == pytest.approx(0.1 / warmup, rel=1e-12)
    assert rate(warmup - 1) == pytest.approx(0.1 * (warmup - 1) / warmup, rel=1e-12)
    assert rate(warmup) == 0.1
    assert rate(warmup + (whole - warmup) // 2) == pytest.approx(0.05, rel=1e-12)
    last = 0.05 * (1 + math.cos(math.pi * (1 - 1 / (whole - warmup))))
    assert rate(whole - 1) == pytest.approx(last, rel=1e-6)


def test_colour_noise_moves_whole_channels_as_the_authors_do(make_run, spec_of):
    run = make_run(spec_of(transform="imagenet", lighting=0.1))
    settings = Settings.of(run.spec)
    lit = data.Examples(run.data.path, "train", settings)
    plain = data.Examples(run.data.path, "train", settings.model_copy(update={"lighting": 0.0}))
    shifts = []
    for seed in range(200):
        image, base = lit[3, seed][0], plain[3, seed][0].float() / 255
        shift = (image - base).flatten(1)
        torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-6, rtol=0)
        shifts.append(shift[:, 0])
    # var = 0.1^2 * sum over components of (deviation * share of the channel)^2
    expected = 0.1 * torch.tensor([0.08855, 0.15646, 0.12394])
    torch.testing.assert_close(torch.stack(shifts).std(0), expected, rtol=0.2, atol=0)
    val = data.Examples(run.data.path, "val", settings)
    assert val[0, 0][0].dtype is torch.uint8
    mean = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(2, 3, 4, 4)
    assert data.normalised(mean, torch.device("cpu")).abs().max() < 1e-6
