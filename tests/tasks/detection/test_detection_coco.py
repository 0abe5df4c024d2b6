"""A COCO root of the user's: what is wrong with it is said in one message, before anything trains."""

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


def changed(split, change):
    return lambda root: edit(root, split, change)


def in_both(change):
    return lambda root: [edit(root, split, change) for split in coco.SPLITS]


def text_of(text):
    return lambda root: coco.instances(root, "train").write_text(text)


def named(name):
    return changed("val", lambda found: found["images"][0].update(file_name=name))


def of_second(**values):
    return changed("train", lambda found: found["annotations"][1].update(values))


no_mask = changed("val", lambda found: found["annotations"][0].pop("segmentation"))


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (shutil.rmtree, r"no data folder .*coco\n.*layout of COCO 2017"),
        (lambda root: shutil.rmtree(root / "annotations"), r"has no annotations/instances_train2017.json\nput COCO's"),
        (
            lambda root: (root / "train2017" / "2.jpg").unlink(),
            r"instances_train2017.json names images .*train2017: 1 of 2, the first is 2.jpg",
        ),
        (
            lambda root: (root / "val2017" / "1.jpg").write_bytes(b""),
            r"instances_val2017.json names images .* the first is 1.jpg",
        ),
        (in_both(lambda found: found.update(categories=[])), r"categories in .*instances_train2017.json is empty"),
        (changed("val", lambda found: found["categories"].reverse()), r"list different categories"),
        (
            in_both(lambda found: found["categories"].append({"id": 9, "name": "cow"})),
            r"has 3 categories, the setting classes is 2\nset train = \{ classes = 3 \}",
        ),
        (
            in_both(lambda found: found["categories"][1].update(name="cat")),
            r"two categories in .*train2017.json have the name 'cat'",
        ),
        (
            changed("train", lambda found: found["categories"][1].update(id=7)),
            r"two categories in .*train2017.json have the id 7",
        ),
        (text_of('{"images": ['), r"instances_train2017.json is not valid JSON"),
        (text_of("[" * 100_000), r"instances_train2017.json is not valid JSON"),
        (text_of("[]"), r"has no list of images"),
        (named("a\0b"), r"instances_val2017.json names images .* missing or empty"),
        (named("\ud800"), r"instances_val2017.json names images .* missing or empty"),
        (changed("train", lambda found: found.pop("categories")), r"has no list of categories"),
        (changed("val", lambda found: found.update(images=[])), r"list of images in .*instances_val2017.json is empty"),
        (of_second(image_id=99), r"annotation 2 in .* is of image 99, not listed"),
        (of_second(category_id=99), r"annotation 2 in .* has category 99, not listed"),
        (
            changed("train", lambda found: found["annotations"][0].pop("bbox")),
            r"an entry of .* is not what COCO has \(KeyError: 'bbox'\)",
        ),
        (no_mask, r"annotation 1 in .*val2017.json has no segmentation"),
        (changed("val", lambda found: found["images"][0].pop("file_name")), r"an image in .* has no file_name"),
        (in_both(lambda found: found["categories"][0].pop("name")), r"a category in .* has no id or no name"),
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


def test_the_tasks_check_the_root_that_the_settings_name(root, spec_of, tmp_path):
    spec = spec_of(data=str(root), classes=2)
    assert Detection().prepare(spec, tmp_path).counts == {"train": 2, "val": 2}
    no_mask(root)
    assert Detection().prepare(spec, tmp_path).counts == {"train": 2, "val": 2}
    with pytest.raises(DataError, match="no segmentation"):
        Segmentation().prepare(spec, tmp_path)
    with pytest.raises(DataError, match=r"set train = \{ classes = 2 \}"):
        Detection().prepare(spec_of(data=str(root)), tmp_path)
