"""A user's ImageFolder data: what is accepted, and that each fault is named with its place."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from task_helpers import data_refused

from nmbench.run import Run
from nmbench.task import DataError
from nmbench_tasks.classification import Classification


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, pictures of several sizes and modes."""
    root = tmp_path / "mine"
    for split, count in (("train", 12), ("val", 4)):
        for label, mode in (("cat", "RGB"), ("dog", "L")):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                Image.new(mode, (40 + number, 50), 20 * number).save(root / split / label / f"{number}.JPEG")
    return root


def prepared(spec_of, root: Path, **over):
    return Classification().prepare(spec_of(data=str(root), **{"classes": 2, **over}), root.parent / "data")


def test_counts_and_fingerprint(spec_of, root):
    info = prepared(spec_of, root)
    assert info.path == root
    assert info.counts == {"train": 24, "val": 8}
    assert prepared(spec_of, root).fingerprint == info.fingerprint
    moved = root.rename(root.parent / "elsewhere")
    assert prepared(spec_of, moved).fingerprint == info.fingerprint
    (moved / "val" / "cat" / "0.JPEG").rename(moved / "val" / "cat" / "99.JPEG")
    assert prepared(spec_of, moved).fingerprint != info.fingerprint


@pytest.mark.parametrize("transform", ["digits", "imagenet"])
def test_it_trains_and_evaluates(spec_of, root, built, tmp_path, transform):
    spec = spec_of(
        data=str(root), classes=2, transform=transform, image_size=24, batch=8, epochs=1, train_images=0, val_images=0
    )
    run = Run(spec, Classification().prepare(spec, tmp_path), None, tmp_path / "work")
    model = built(spec)
    Classification().train(model, run)
    assert run.updates == 3
    metrics = Classification().evaluate(model, run)
    assert set(metrics) == {metric.name for metric in Classification.metrics}
    assert metrics["top5"] == 100.0
    assert len(run.per_example["correct"]) == 8


def remove(*parts: str):
    return lambda root: shutil.rmtree(root.joinpath(*parts))


def empty(*parts: str):
    return lambda root: [path.unlink() for path in root.joinpath(*parts).iterdir()]


FAULTS = {
    "no folder": (lambda root: shutil.rmtree(root), "no data folder"),
    "no train": (remove("train"), "no train/ folder"),
    "no val": (remove("val"), "no val/ folder"),
    "no classes": (lambda root: [remove("val", c)(root) for c in ("cat", "dog")], "no class folders in .*val"),
    "classes differ": (remove("val", "dog"), "different classes.*dog"),
    "renamed class": (lambda root: (root / "val" / "dog").rename(root / "val" / "wolf"), "different.*dog, wolf"),
    "empty class": (empty("train", "dog"), "train/dog has no images"),
    "empty file": (lambda root: (root / "val" / "cat" / "1.JPEG").write_bytes(b""), "val/cat/1.JPEG is an empty"),
    "no picture to evaluate on": (
        lambda root: (root / "val" / "cat" / "1.JPEG").write_bytes(b"no picture"),
        "cannot read the image .*val/cat/1.JPEG",
    ),
    "deep picture to evaluate on": (
        lambda root: Image.new("I;16", (40, 50), 30_000).save(root / "val" / "cat" / "5.tif"),
        "val/cat/5.tif has more than 8 bits",
    ),
    "dead link": (lambda root: (root / "val" / "cat" / "x.png").symlink_to("nowhere"), "cannot read .*x.png"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(spec_of, root, fault):
    harm, message = FAULTS[fault]
    harm(root)
    with data_refused(message, root):
        prepared(spec_of, root)


def test_number_of_classes_must_agree(spec_of, root):
    with pytest.raises(DataError, match="has 2 classes, the setting classes is 10"):
        prepared(spec_of, root, classes=10)


@pytest.mark.parametrize(("transform", "workers"), [("digits", 0), ("imagenet", 2)])
def test_a_broken_image_is_named(spec_of, root, built, tmp_path, transform, workers):
    broken = root / "train" / "cat" / "5.JPEG"
    broken.write_bytes(b"this is no picture")
    settings = {"classes": 2, "transform": transform, "image_size": 24, "train_images": 0, "batch": 8}
    spec = spec_of(data=str(root), workers=workers, **settings)
    run = Run(spec, Classification().prepare(spec, tmp_path), None, tmp_path / "work")
    with pytest.raises(DataError, match=f"cannot decode the image {broken}") as caught:
        Classification().train(built(spec), run)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_an_image_of_more_than_8_bits_is_refused(spec_of, root, built, tmp_path, mode):
    """Pillow's conversion to RGB cuts its values off at 255: a white picture."""
    deep = root / "train" / "cat" / "5.tif"
    Image.new(mode, (40, 50), 30_000).save(deep)
    spec = spec_of(data=str(root), classes=2, train_images=0, batch=8)
    run = Run(spec, Classification().prepare(spec, tmp_path), None, tmp_path / "work")
    with pytest.raises(DataError, match=f"{deep} has more than 8 bits a channel"):
        Classification().train(built(spec), run)
