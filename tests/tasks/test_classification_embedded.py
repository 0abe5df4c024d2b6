"""The embedded data: what is on disk, that it is always the same, and that prepare can be called anyhow."""

import numpy as np
import pytest
from task_helpers import bytes_of
from torchvision.datasets import ImageFolder

from nmbench.task import DataError, DataInfo
from nmbench_tasks.classification import embedded as module


def test_it_is_an_image_folder_with_the_counts_it_claims(embedded):
    for split in ("train", "val"):
        found = ImageFolder(embedded.path / split)
        assert found.classes == [str(c) for c in range(10)]
        assert len(found) == embedded.counts[split]
        assert set(np.bincount(found.targets)) == {module.SPLITS[split]}
    assert embedded.counts["train"] >= 6000
    assert embedded.counts["val"] >= 2000


def test_no_handwritten_original_is_in_both_splits(embedded):
    rows = {s: {p.name[:4] for p in (embedded.path / s).glob("*/*.png")} for s in ("train", "val")}
    assert rows["train"].isdisjoint(rows["val"])
    assert len(rows["train"]) + len(rows["val"]) == 1797
    assert len(rows["val"]) == 700


def test_the_label_of_a_picture_is_that_of_its_original(embedded):
    from sklearn.datasets import load_digits

    target = load_digits().target
    assert all(target[int(p.name[:4])] == int(p.parent.name) for p in embedded.path.glob("*/*/*.png"))


def test_written_again_elsewhere_it_has_the_same_bytes(tiny, tmp_path, spec_of):
    again = module.prepare(spec_of(), tmp_path / "elsewhere")
    assert again.fingerprint == tiny.fingerprint
    assert bytes_of(again.path) == bytes_of(tiny.path)


@pytest.fixture
def tiny(tmp_path, monkeypatch, spec_of) -> DataInfo:
    """A data set of 30 pictures below tmp_path, quick to write again."""
    monkeypatch.setattr(module, "SPLITS", {"train": 2, "val": 1})
    return module.prepare(spec_of(), tmp_path)


def test_settings_that_it_cannot_serve(spec_of, tmp_path):
    with pytest.raises(DataError, match="/path/to/imagenet"):
        module.prepare(spec_of(scale="paper"), tmp_path)
    with pytest.raises(DataError, match="10 classes"):
        module.prepare(spec_of(classes=7), tmp_path)
