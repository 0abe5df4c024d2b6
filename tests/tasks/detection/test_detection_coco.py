"""A COCO root of the user's: what is wrong with it is said in one message, before anything trains.

pytest tests/tasks/detection/test_detection_coco.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nmbench.task import DataError
from nmbench_tasks.detection import Detection, Segmentation, coco, datasets, engine
from nmbench_tasks.detection.scales import Settings


def root_at(folder: Path) -> Path:
    """Two images of 9 x 9 px a split, one object on each, two categories."""
    for split in coco.SPLITS:
        coco.images(folder, split).mkdir(parents=True)
        for number in (1, 2):
            Image.new("RGB", (9, 9)).save(coco.images(folder, split) / f"{number}.jpg")
        square = [[1, 1, 5, 1, 5, 5, 1, 5]]
        found = {
            "images": [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in (1, 2)],
            "annotations": [
                {"id": n, "image_id": n, "category_id": n + 6, "bbox": [1, 1, 4, 4], "area": 16, "segmentation": square}
                | {"iscrowd": 0}
                for n in (1, 2)
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
        }
        path = coco.instances(folder, split)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found))
    return folder


@pytest.fixture
def root(tmp_path):
    return root_at(tmp_path / "coco")


def edit(root, split, change):
    path = coco.instances(root, split)
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_good_data_are_counted_and_named(root):
    info = coco.check(root, 2, masks=True)
    assert info.counts == {"train": 2, "val": 2}
    assert info.path == root
    assert coco.categories(root) == ("cat", "dog")


def test_the_fingerprint_follows_annotations_and_images(root):
    first = coco.check(root, 2, masks=True).fingerprint
    assert coco.check(root, 2, masks=True).fingerprint == first
    Image.new("RGB", (9, 9)).save(root / "val2017" / "2.jpg", format="BMP")  # of another size in bytes
    second = coco.check(root, 2, masks=True).fingerprint
    edit(root, "train", lambda found: found["annotations"][0].update(bbox=[1, 1, 4, 5]))
    assert len({first, second, coco.check(root, 2, masks=True).fingerprint}) == 3


def without_folder(root):
    shutil.rmtree(root)


def without_annotations(root):
    shutil.rmtree(root / "annotations")


def missing_image(root):
    (root / "train2017" / "2.jpg").unlink()


def empty_image(root):
    (root / "val2017" / "1.jpg").write_bytes(b"")


def no_categories(root):
    for split in coco.SPLITS:
        edit(root, split, lambda found: found.update(categories=[]))


def other_categories(root):
    edit(root, "val", lambda found: found["categories"].reverse())


def third_category(root):
    for split in coco.SPLITS:
        edit(root, split, lambda found: found["categories"].append({"id": 9, "name": "cow"}))


def one_name_twice(root):
    for split in coco.SPLITS:
        edit(root, split, lambda found: found["categories"][1].update(name="cat"))


def one_id_twice(root):
    edit(root, "train", lambda found: found["categories"][1].update(id=7))


def no_json(root):
    coco.instances(root, "train").write_text('{"images": [')


def deep_json(root):
    coco.instances(root, "train").write_text("[" * 100_000)


def nul_in_a_name(root):
    edit(root, "val", lambda found: found["images"][0].update(file_name="a\0b"))


def half_a_character_in_a_name(root):
    edit(root, "val", lambda found: found["images"][0].update(file_name="\ud800"))


def captions(root):
    edit(root, "train", lambda found: found.pop("categories"))


def a_list(root):
    coco.instances(root, "train").write_text("[]")


def no_images(root):
    edit(root, "val", lambda found: found.update(images=[]))


def stray_image(root):
    edit(root, "train", lambda found: found["annotations"][1].update(image_id=99))


def stray_category(root):
    edit(root, "train", lambda found: found["annotations"][1].update(category_id=99))


def no_box(root):
    edit(root, "train", lambda found: found["annotations"][0].pop("bbox"))


def no_mask(root):
    edit(root, "val", lambda found: found["annotations"][0].pop("segmentation"))


def unnamed_image(root):
    edit(root, "val", lambda found: found["images"][0].pop("file_name"))


def unnamed_category(root):
    for split in coco.SPLITS:
        edit(root, split, lambda found: found["categories"][0].pop("name"))


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (without_folder, r"no data folder .*coco\n.*layout of COCO 2017"),
        (without_annotations, r"coco has no annotations/instances_train2017.json\nput COCO's"),
        (missing_image, r"instances_train2017.json names images .*train2017: 1 of 2, the first is 2.jpg"),
        (empty_image, r"instances_val2017.json names images .* the first is 1.jpg"),
        (no_categories, r"list of categories in .*instances_train2017.json is empty"),
        (other_categories, r"list different categories"),
        (third_category, r"has 3 categories, the setting classes is 2\nset train = \{ classes = 3 \}"),
        (one_name_twice, r"two categories in .*train2017.json have the name 'cat'"),
        (one_id_twice, r"two categories in .*train2017.json have the id 7"),
        (no_json, r"instances_train2017.json is not valid JSON"),
        (deep_json, r"instances_train2017.json is not valid JSON"),
        (nul_in_a_name, r"instances_val2017.json names images .* missing or empty"),
        (half_a_character_in_a_name, r"instances_val2017.json names images .* missing or empty"),
        (captions, r"has no list of categories"),
        (a_list, r"has no list of images"),
        (no_images, r"list of images in .*instances_val2017.json is empty"),
        (stray_image, r"annotation 2 in .* is of image 99, not listed"),
        (stray_category, r"annotation 2 in .* has category 99, not listed"),
        (no_box, r"an entry of .* is not what COCO has \(KeyError: 'bbox'\)"),
        (no_mask, r"annotation 1 in .*val2017.json has no segmentation"),
        (unnamed_image, r"an image in .* has no file_name"),
        (unnamed_category, r"a category in .* has no id or no name"),
    ],
)
def test_what_is_wrong_is_said(root, harm, text):
    harm(root)
    with pytest.raises(DataError, match=text) as caught:
        coco.check(root, 2, masks=True)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_limit_that_leaves_no_object_is_said_before_training(root, spec_of, tmp_path):
    for split in coco.SPLITS:
        edit(root, split, lambda found: found["annotations"].pop(0))
    over = {"data": str(root), "classes": 2, "batch": 1}
    assert Detection().prepare(spec_of(**over, val_images=2), tmp_path).counts["val"] == 2
    with pytest.raises(DataError, match=r"first 1 images of .*val2017.json hold no object.*\nset val_images higher"):
        Detection().prepare(spec_of(**over, val_images=1), tmp_path)
    # in training images without an object are left out before the limit counts
    info = Detection().prepare(spec_of(**over, val_images=0, train_images=1), tmp_path)
    engine.load()
    built = datasets.build(info.path, "train", [], Settings.of(spec_of(**over, train_images=1)))
    assert [image["img_id"] for image in map(built.get_data_info, range(len(built)))] == [2]


def test_detection_needs_no_masks(root):
    no_mask(root)
    assert coco.check(root, 2, masks=False).counts["val"] == 2


def test_the_tasks_check_the_root_that_the_settings_name(root, spec_of, tmp_path):
    spec = spec_of(data=str(root), classes=2)
    assert Detection().prepare(spec, tmp_path).counts == {"train": 2, "val": 2}
    no_mask(root)
    assert Detection().prepare(spec, tmp_path).counts == {"train": 2, "val": 2}
    with pytest.raises(DataError, match="no segmentation"):
        Segmentation().prepare(spec, tmp_path)
    with pytest.raises(DataError, match=r"set train = \{ classes = 2 \}"):
        Detection().prepare(spec_of(data=str(root)), tmp_path)


def test_the_embedded_data_pass_the_same_check(scenes_on_disk):
    assert coco.check(scenes_on_disk.path, 10, masks=True).counts == scenes_on_disk.counts
