"""Every key of a COCO file that the loader or the metric reads is checked, or filled in, before anything trains."""

import json

import pytest
from PIL import Image
from test_detection_coco import edit, root_at

from nmbench.task import DataError
from nmbench_tasks.detection import coco


@pytest.fixture
def root(tmp_path):
    return root_at(tmp_path / "coco")


def objects(split="train", **values):
    """Each object of `split` gets these values."""
    return lambda root: edit(root, split, lambda found: [entry.update(values) for entry in found["annotations"]])


def images(**values):
    return lambda root: edit(root, "train", lambda found: [entry.update(values) for entry in found["images"]])


def without(key, split="train"):
    return lambda root: edit(root, split, lambda found: [entry.pop(key) for entry in found["annotations"]])


def byte_order_mark(root):
    path = coco.instances(root, "val")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


FAULTS = {
    "two points": (objects(segmentation=[[1, 1, 5, 5]]), "neither run lengths .* nor a list of polygons"),
    "not nested": (objects(segmentation=[1, 1, 5, 1, 5, 5]), "neither run lengths .* nor a list of polygons"),
    "no number": (objects(segmentation=[[1, 1, 5, 1, 5, float("nan")]]), "neither run lengths"),
    "run lengths of another size": (objects(segmentation={"size": [4, 4], "counts": [16]}), "of its image's size"),
    "flat": (objects("val", segmentation=[[1, 1, 5, 1, 3, 1]]), "themselves reach segm AP"),
    "between 0 and 1": (objects(bbox=[0.1, 0.1, 0.4, 0.4], area=0.16), "no object to learn or to find: 2 are listed"),
    "outside": (objects("val", bbox=[20, 20, 4, 4]), "no object to learn or to find"),
    "infinite box": (objects(bbox=[1, 1, float("inf"), 4]), "has no box"),
    "text for an area": (objects(area="16"), "is not what COCO has"),
    "crowds alone": (objects("val", iscrowd=1), "no object to learn or to find"),
    "iscrowd 2": (objects(iscrowd=2), "iscrowd 2: a number, and 0 or 1"),
    "an id twice": (objects(id=3), "its id comes twice"),
    "an image's id twice": (images(id=1), "need an id each"),
    "no object in train": (
        lambda root: edit(root, "train", lambda f: f.update(annotations=[])),
        "train2017.json has no",
    ),
    "no object in val": (lambda root: edit(root, "val", lambda f: f.update(annotations=[])), "val2017.json has no"),
    "another size": (images(width=12), "is 9 x 9 px.*gives width 12, height 9"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said(root, fault):
    harm, text = FAULTS[fault]
    harm(root)
    with pytest.raises(DataError, match=text) as caught:
        coco.prepare(str(root), 2, True, root.parent / "data")
    assert len(str(caught.value).splitlines()) <= 2


FILLED = {
    "iscrowd": without("iscrowd", "val"),
    "area": without("area"),
    "ids from 0": lambda root: edit(root, "val", lambda found: found["annotations"][0].update(id=0)),
    "byte order mark": byte_order_mark,
}


@pytest.mark.parametrize("fault", FILLED)
def test_what_can_be_filled_in_is_in_a_copy(root, fault):
    FILLED[fault](root)
    before = {split: coco.instances(root, split).read_bytes() for split in coco.SPLITS}
    with pytest.raises(coco.Incomplete):
        coco.check(root, 2, True)
    info = coco.prepare(str(root), 2, True, root.parent / "data")
    assert info.path != root
    assert coco.prepare(str(root), 2, True, root.parent / "data") == info
    for split in coco.SPLITS:
        entries = json.loads(coco.instances(info.path, split).read_text())["annotations"]
        assert [(entry["id"], entry["iscrowd"], entry["area"]) for entry in entries] == [(1, 0, 16), (2, 0, 16)]
    assert {split: coco.instances(root, split).read_bytes() for split in coco.SPLITS} == before


def test_a_complete_folder_is_read_where_it_lies(root):
    assert coco.prepare(str(root), 2, True, root.parent / "data").path == root
    assert not (root.parent / "data").exists()


@pytest.mark.parametrize("listed", [(9, 6), (6, 9)])
def test_a_photograph_that_exif_turns_must_be_listed_as_it_is_shown(root, listed):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    for number in (1, 2):
        Image.new("RGB", (9, 6)).save(coco.images(root, "train") / f"{number}.jpg", exif=exif)
    images(width=listed[0], height=listed[1])(root)
    if listed == (6, 9):
        assert coco.prepare(str(root), 2, True, root.parent).counts["train"] == 2
    else:
        with pytest.raises(DataError, match="is 6 x 9 px, turned as its EXIF data say"):
            coco.prepare(str(root), 2, True, root.parent)


def test_a_picture_of_16_bits_is_refused(root):
    path = coco.images(root, "val") / "1.jpg"
    Image.new("I;16", (9, 9), 30_000).save(path, format="PNG")
    with pytest.raises(DataError, match=f"{path} has more than 8 bits a channel"):
        coco.prepare(str(root), 2, True, root.parent)
