"""The embedded data: COCO's layout on disk, digits where the annotations say, always the same, prepared anyhow."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from task_helpers import bytes_of

from nmbench.task import DataError, DataInfo
from nmbench_tasks._shared.drawing import originals
from nmbench_tasks.detection import coco as files
from nmbench_tasks.detection import embedded


@pytest.fixture(scope="module")
def coco(scenes_on_disk):
    with contextlib.redirect_stdout(io.StringIO()):
        return {split: COCO(str(files.instances(scenes_on_disk.path, split))) for split in files.SPLITS}


def test_there_are_as_many_as_it_says(scenes_on_disk, coco):
    for split in files.SPLITS:
        on_disk = sorted(path.name for path in files.images(scenes_on_disk.path, split).iterdir())
        assert on_disk == sorted(image["file_name"] for image in coco[split].imgs.values())
        assert len(on_disk) == scenes_on_disk.counts[split]
    assert scenes_on_disk.counts["train"] >= 400
    assert scenes_on_disk.counts["val"] >= 100


@pytest.mark.parametrize("split", files.SPLITS)
def test_every_scene_has_one_to_four_digits_of_all_classes_and_sizes(coco, split):
    found = coco[split]
    counts = {len(found.getAnnIds(imgIds=[image])) for image in found.imgs}
    assert counts == {1, 2, 3, 4}
    assert {a["category_id"] for a in found.anns.values()} == set(range(1, 11))
    areas = np.array([a["area"] for a in found.anns.values()])
    small, large = (areas < 32**2).sum(), (areas >= 96**2).sum()
    assert min(small, len(areas) - small - large) > 100
    assert large > 20


@pytest.mark.parametrize("split", files.SPLITS)
def test_boxes_and_areas_are_those_of_the_masks(coco, split):
    found = coco[split]
    for annotation in list(found.anns.values())[::7]:
        mask = found.annToMask(annotation)
        assert mask.shape == (embedded.SIZE, embedded.SIZE)
        assert mask.sum() == annotation["area"]
        x, y, w, h = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert (x, y, x + w - 1, y + h - 1) == (columns.min(), rows.min(), columns.max(), rows.max())


def test_no_handwritten_original_is_in_both_splits(coco):
    used = {split: {a["original"] for a in coco[split].anns.values()} for split in files.SPLITS}
    allowed = {split: set(np.concatenate(originals()[split]).tolist()) for split in files.SPLITS}
    assert used["train"] <= allowed["train"]
    assert used["val"] <= allowed["val"]
    assert used["train"].isdisjoint(used["val"])
    assert len(used["train"]) > 900


@pytest.fixture
def tiny(tmp_path, monkeypatch, spec_of) -> DataInfo:
    """A data set of five scenes below tmp_path, quick to write again."""
    monkeypatch.setattr(embedded, "SPLITS", {"train": 3, "val": 2})
    return embedded.prepare(spec_of(), tmp_path)


def test_written_again_elsewhere_it_has_the_same_bytes(tiny, tmp_path, spec_of):
    again = embedded.prepare(spec_of(), tmp_path / "elsewhere")
    assert again.fingerprint == tiny.fingerprint
    assert bytes_of(again.path) == bytes_of(tiny.path)


def test_settings_that_it_cannot_serve(spec_of, tmp_path):
    with pytest.raises(DataError, match="/path/to/coco"):
        embedded.prepare(spec_of(scale="paper"), tmp_path)
    with pytest.raises(DataError, match="10 classes"):
        embedded.prepare(spec_of(classes=7), tmp_path)
