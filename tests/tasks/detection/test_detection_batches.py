"""Order and augmentation are functions of (seed, epoch, index), whatever draws elsewhere."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmbench._util import random as rng
from nmbench.task import DataError, Spec
from nmbench_tasks.detection import engine
from nmbench_tasks.detection.batches import Order, Seeded, loader
from nmbench_tasks.detection.scales import Settings


@pytest.fixture(scope="module", autouse=True)
def mmdet_is_loaded():
    engine.load()


class Numbers:
    """A data set whose items draw from every generator that mmdet's pipelines use."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(1).item()

    def get_data_info(self, index):
        return {"width": 10 if index % 3 else 30, "height": 20}


class FakeRun:
    """The streams of a run, and no more of it."""

    def __init__(self, seed=0, rank=0, ranks=1, workers=0):
        self.seed, self.rank, self.ranks = seed, rank, ranks
        self.spec = Spec("detection", "retinanet-r18-narrow", "smoke", seed, {"workers": workers})

    def rng(self, epoch, index="order"):
        return rng.generator(self.seed, epoch, index)

    def stream(self, epoch, index):
        return rng.stream(self.seed, epoch, index)


def epoch_of(epoch=0, skip=0, workers=0, seed=0, noise=False, count=20, batch=4):
    made = loader(FakeRun(seed, workers=workers), Numbers(23), batch, count)
    made.batch_sampler.begin(epoch)
    made.batch_sampler.skip = skip
    found = []
    for group in made:
        found.append(repr(group))
        if noise:
            random.random(), np.random.rand(), torch.rand(3)
    return found


def test_the_same_seed_gives_the_same_batches_whatever_draws_elsewhere():
    plain = epoch_of()
    assert epoch_of(noise=True) == plain
    assert len(plain) == len(set(plain)) == 5
    assert not set(epoch_of(seed=1)) & set(plain)
    assert not set(epoch_of(epoch=1)) & set(plain)


def test_each_image_draws_by_itself_anew_in_each_epoch():
    made, draws = loader(FakeRun(), Numbers(20), 4, 20), {"python": [], "numpy": [], "torch": []}
    for epoch in range(2):
        made.batch_sampler.begin(epoch)
        for _, *drawn in made:
            for found, values in zip(draws.values(), drawn, strict=True):
                found += values
    assert {name: len(set(found)) for name, found in draws.items()} == {"python": 40, "numpy": 40, "torch": 40}


def test_worker_processes_change_nothing():
    assert epoch_of(workers=2) == epoch_of()


def test_a_resumed_epoch_goes_on_where_it_was():
    assert epoch_of(skip=2) == epoch_of()[2:]
    assert epoch_of(skip=5) == []


def test_the_skip_is_for_one_epoch_only():
    made = loader(FakeRun(), Numbers(20), 4, 20)
    made.batch_sampler.skip = 3
    assert len(list(made)) == 2
    assert len(list(made)) == 5


def test_endless_batches_are_the_epochs_one_after_another():
    made = loader(FakeRun(), Numbers(23), 4, 20, endless=True)
    stream = iter(made)
    first = [repr(next(stream)) for _ in range(12)]
    assert first == (epoch_of(0) + epoch_of(1) + epoch_of(2))[:12]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5), st.integers(0, 5))
def test_ranks_share_the_images_of_one_rank(images, ranks, batch, epoch):
    """Together they train on the same first `count`, each image on one rank; step by step on the same ones."""
    count = images // (ranks * batch) * ranks * batch
    data = Numbers(images)
    orders = [Order(FakeRun(rank=r, ranks=ranks), data, count, r, ranks) for r in range(ranks)]
    whole = Order(FakeRun(), data, count)
    for order in (*orders, whole):
        order.epoch = epoch
    shares, alone = [list(order) for order in orders], list(whole)
    assert len({index for share in shares for index in share}) == count
    assert {len(share) for share in shares} == {count // ranks} == {len(order) for order in orders}
    for start in range(0, count // ranks, batch):
        together = {i for share in shares for i in share[start : start + batch]}
        assert together == set(alone[start * ranks : (start + batch) * ranks])


def test_a_config_can_group_images_by_their_shape():
    made = loader(FakeRun(), Numbers(24), 4, 24, {"type": "AspectRatioBatchSampler"})
    groups = [[index % 3 == 0 for index in indices] for indices, *_ in made]
    assert len(groups) == len(made) == 6
    assert all(len(set(group)) == 1 for group in groups)
    again = loader(FakeRun(), Numbers(24), 4, 24, {"type": "AspectRatioBatchSampler"})
    again.batch_sampler.skip = 2
    assert [repr(b) for b in again] == [repr(b) for b in made][2:]


def test_an_image_that_cannot_be_decoded(scenes_on_disk, spec_of, tmp_path):
    import shutil

    from nmbench_tasks.detection import coco, datasets

    root = tmp_path / "broken"
    shutil.copytree(scenes_on_disk.path / coco.ANNOTATIONS, root / coco.ANNOTATIONS)
    (root / "train2017").mkdir()
    for number in range(1, 7):
        (root / "train2017" / f"{number:012d}.png").write_bytes(b"no picture")
    settings_ = Settings.of(spec_of())
    dataset = datasets.build(root, "train", datasets.pipeline(settings_, False, True), settings_)
    with pytest.raises(DataError, match=r"cannot decode an image: .*png.*; replace or remove it"):
        Seeded(dataset)[0, 0]


class Broken(Numbers):
    def __getitem__(self, index):
        raise DataError("what is wrong\nwhat to do")


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_the_data_is_told_in_its_own_words(workers):
    with pytest.raises(DataError) as caught:
        next(iter(loader(FakeRun(workers=workers), Broken(23), 4, 20)))
    assert str(caught.value) == "what is wrong\nwhat to do"
