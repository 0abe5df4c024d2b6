"""Users' data: torchvision's layouts are read, and each fault ends as a DataError that names its place."""

import os
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from task_helpers import data_refused

from nmbench.task import DataError
from nmbench_tasks.optical_flow import OpticalFlow, files, plan, sets
from nmbench_tasks.optical_flow.scales import Settings

SIZE = (136, 150)


def prepared(flow_spec, root, **over):
    settings = {"data": str(root), "stages": "chairs", "evaluate_on": "chairs", **over}
    return OpticalFlow().prepare(flow_spec(**settings), root.parent / "data")


def test_counts_and_fingerprint(flow_spec, chairs):
    info = prepared(flow_spec, chairs)
    assert info.counts == {"chairs train": 4, "chairs val": 2}
    moved = chairs.rename(chairs.parent / "elsewhere")
    assert prepared(flow_spec, moved).fingerprint == info.fingerprint
    stem = moved / "FlyingChairs" / "data" / "00006"
    for end in ("img1.ppm", "img2.ppm", "flow.flo"):
        stem.with_name(f"00006_{end}").rename(stem.with_name(f"00009_{end}"))
    assert prepared(flow_spec, moved).fingerprint != info.fingerprint


def part(root, number, end):
    return root / "FlyingChairs" / "data" / f"{number:05d}_{end}"


def overwrite(number, end, content):
    return lambda root: part(root, number, end).write_bytes(content)


def truncate(number, end):
    return lambda root: os.truncate(part(root, number, end), 1000)


def picture(number, end, size):
    return lambda root: files.write_ppm(part(root, number, end), np.zeros((*size, 3), np.uint8))


def all_of_size(height, width):
    def harm(root):
        for end in ("img1.ppm", "img2.ppm"):
            picture(2, end, (height, width))(root)
        files.write_flo(part(root, 2, "flow.flo"), np.zeros((2, height, width)))

    return harm


def split_file(text):
    return lambda root: (root / "FlyingChairs" / "FlyingChairs_train_val.txt").write_text(text)


def empty(root):
    shutil.rmtree(root)
    root.mkdir()


FAULTS = {
    "wrong magic number": (overwrite(2, "flow.flo", b"PIEX" + bytes(999)), "00002_flow.flo has a wrong magic number"),
    "truncated body": (truncate(2, "flow.flo"), "00002_flow.flo is truncated"),
    "truncated val body": (truncate(3, "flow.flo"), "00003_flow.flo is truncated"),
    "images of different sizes": (picture(2, "img2.ppm", (136, 158)), "00002_img1.ppm and .* different sizes"),
    "flow of another size": (
        lambda root: files.write_flo(part(root, 2, "flow.flo"), np.zeros((2, 150, 136))),
        "00002_img1.ppm is 150 x 136 px, its flow .* 136 x 150 px",
    ),
    "below 128 px": (all_of_size(136, 120), "00002_img1.ppm is 120 x 136 px; RAFT takes at least 128 px"),
    "no image": (overwrite(2, "img1.ppm", b"nothing"), "00002_img1.ppm cannot be read"),
    "no split file": (
        lambda root: (root / "FlyingChairs" / "FlyingChairs_train_val.txt").unlink(),
        "no split file .*FlyingChairs_train_val.txt",
    ),
    "short split file": (split_file("1\n2\n"), "6 flows, 12 images and 2 lines"),
    "split file of words": (split_file("train\nval\n"), "the split file .* holds 'train'"),
    "long split file": (split_file("1\n2\n" * 9), "6 flows, 12 images and 18 lines"),
    "nothing to train on": (split_file("2\n" * 6), "no image pairs of chairs .train."),
    "nothing to evaluate on": (split_file("1\n" * 6), "no image pairs of chairs .val."),
    "empty root": (empty, "no split file"),
    "no root": (shutil.rmtree, "no data folder"),
    "a flow is missing": (lambda root: part(root, 2, "flow.flo").unlink(), "5 flows, 12 images and 6 lines"),
    "a pair under two names": (
        lambda root: part(root, 2, "flow.flo").rename(part(root, 7, "flow.flo")),
        "00002_img1.ppm and the flow .*00003_flow.flo do not belong together",
    ),
    "an image is missing": (lambda root: part(root, 2, "img1.ppm").unlink(), "6 flows, 11 images and 6 lines"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(flow_spec, chairs, fault):
    harm, message = FAULTS[fault]
    harm(chairs)
    with data_refused(message, chairs):
        prepared(flow_spec, chairs)


@pytest.mark.parametrize("dataset", ["things", "sintel", "kitti", "hd1k"])
def test_an_empty_root_is_an_error_for_every_loader(tmp_path, dataset):
    with pytest.raises(DataError, match=str(tmp_path)) as caught:
        sets.open_set(dataset, tmp_path)
    assert sets.LAYOUT[dataset] in str(caught.value)


def test_a_pair_that_breaks_after_prepare_is_still_a_data_error(flow_spec, chairs):
    info = prepared(flow_spec, chairs)
    for harm in (truncate(1, "flow.flo"), overwrite(1, "flow.flo", b"PIEH" + b"\x7f" * 99)):
        harm(chairs)
        with pytest.raises(DataError, match=r"00001_flow\.flo"):
            sets.open_set("chairs", info.path)[0]
    overwrite(2, "img2.ppm", b"P6 nonsense")(chairs)
    with pytest.raises(DataError, match=r"00002_img2\.ppm"):
        sets.open_set("chairs", info.path)[1]


def test_crops_that_raft_or_the_images_cannot_take(flow_spec, chairs):
    with pytest.raises(DataError, match="crop_height is 120 px"):
        prepared(flow_spec, chairs, crop_height=120)
    with pytest.raises(DataError, match=r"crop_width is 132 px.*for instance 136"):
        prepared(flow_spec, chairs, crop_width=132)
    with pytest.raises(DataError, match="150 x 136 px, the crops of stage chairs are 160 x 128"):
        prepared(flow_spec, chairs, crop_width=160)
    prepared(flow_spec, chairs, crop_width=160, augment="raft")


def test_a_stage_without_its_data_set(flow_spec, tmp_path):
    for scale in ("paper", "paper-sintel", "paper-kitti"):
        with pytest.raises(DataError, match=r"need the data set '\w+', and the setting data is 'embedded'"):
            OpticalFlow().prepare(flow_spec(scale=scale), tmp_path)
    with pytest.raises(ValueError, match="did you mean 'chairs'"):
        plan.stages(Settings(stages="chair"))


# -- the other layouts, written as their owners do ------------------------------------------------------------------
def png(path, seed=0, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def flow_png(path, flow, valid):
    """KITTI's PNG of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.stack([valid, *(flow[::-1] * 64 + 2**15)], axis=-1)  # OpenCV writes blue, green, red
    cv2.imwrite(str(path), values.round().astype(np.uint16))


def pfm(path, flow):
    path.parent.mkdir(parents=True, exist_ok=True)
    body = np.concatenate([flow, np.zeros_like(flow[:1])]).transpose(1, 2, 0)[::-1].astype("<f4")
    path.write_bytes(f"PF\n{flow.shape[2]} {flow.shape[1]}\n-1.0\n".encode() + body.tobytes())


def write_all(root) -> np.ndarray:
    """Sintel with ten scenes of two pairs, KITTI with ten pairs, HD1K and FlyingThings3D with a few; the flow used."""
    flow = np.random.default_rng(5).integers(-300, 300, (2, *SIZE)).astype(np.float32) / 8
    valid = np.random.default_rng(6).random(SIZE) < 0.3
    for scene in range(10):
        for frame in (1, 2, 3):
            for kind in ("clean", "final"):
                png(root / "Sintel" / "training" / kind / f"scene_{scene}" / f"frame_{frame:04d}.png", frame)
            if frame < 3:
                path = root / "Sintel" / "training" / "flow" / f"scene_{scene}" / f"frame_{frame:04d}.flo"
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_flo(path, flow)
    for pair in range(10):
        for end in (10, 11):
            png(root / "KittiFlow" / "training" / "image_2" / f"{pair:06d}_{end}.png", end)
        flow_png(root / "KittiFlow" / "training" / "flow_occ" / f"{pair:06d}_10.png", flow, valid)
    for frame in range(3):
        png(root / "hd1k" / "hd1k_input" / "image_2" / f"000000_{frame:04d}.png", frame)
        flow_png(root / "hd1k" / "hd1k_flow_gt" / "flow_occ" / f"000000_{frame:04d}.png", flow, valid)
    for part_ in ("TRAIN", "TEST"):
        for frame in (6, 7, 8):
            for kind in ("clean", "final"):
                folder = root / "FlyingThings3D" / f"frames_{kind}pass" / part_ / "A" / "0000" / "left"
                png(folder / f"{frame:04d}.png", frame)
            for direction, word in (("into_future", "IntoFuture"), ("into_past", "IntoPast")):
                folder = root / "FlyingThings3D" / "optical_flow" / part_ / "A" / "0000" / direction / "left"
                pfm(folder / f"OpticalFlow{word}_{frame:04d}_L.pfm", flow)
    return flow


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    root = tmp_path_factory.mktemp("everything")
    return root, write_all(root)


@pytest.mark.parametrize(
    ("name", "count", "sparse"),
    [
        ("sintel", 40, False),
        ("sintel-final", 20, False),
        ("kitti", 10, True),
        ("hd1k", 2, True),
        ("things", 8, False),
        ("things-clean", 4, False),
    ],
)
def test_every_data_set_is_read_through_torchvision(everything, name, count, sparse):
    root, flow = everything
    opened = sets.open_set(name, root)
    assert (len(opened), opened.sparse) == (count, sparse)
    pair = opened[0]
    assert pair.first.shape == pair.second.shape == (3, *SIZE)
    assert pair.first.dtype == torch.uint8
    assert np.allclose(pair.flow[:, pair.valid], flow[:, pair.valid], atol=1 / 64)
    assert pair.valid.all() != sparse
    assert [str(opened.files(i)[0]) for i in range(count)] == sorted(str(opened.files(i)[0]) for i in range(count))


def test_the_paper_s_stages_prepare_and_hold_a_fifth_back(everything, flow_spec, tmp_path):
    root, _ = everything
    over = {"data": str(root), "crop_height": 128, "crop_width": 128, "evaluate_on": "sintel-clean+kitti"}
    stages = "things+sintel+kitti"
    spec = flow_spec(stages=stages, **over)
    info = OpticalFlow().prepare(spec, tmp_path)
    # 32 of 40 Sintel pairs (8 of 10 scenes, two passes), 8 of 10 KITTI pairs, 2 of HD1K, 4 of FlyingThings3D
    assert info.counts["sintel train"] == 32 + 8 + 2 + 4
    assert info.counts["kitti train"] == 8
    assert (info.counts["sintel-clean val"], info.counts["kitti val"]) == (4, 2)
    assert len(info.notes) == 2
    whole = OpticalFlow().prepare(flow_spec(**{**over, "stages": "things"}), tmp_path)
    assert (whole.counts["sintel-clean val"], whole.counts["kitti val"]) == (20, 10)
    assert whole.notes == ()


def test_what_is_held_back_is_not_trained_on(everything):
    root, _ = everything
    for name in ("sintel", "kitti"):
        opened = sets.open_set(name, root)
        trained, held = opened.part(held_out=False), opened.part(held_out=True)
        scenes = [{one._scene(i) for i in range(len(one))} for one in (trained, held)]
        assert scenes[0].isdisjoint(scenes[1])
        assert len(trained) + len(held) == len(opened)
        assert len(held) * 5 == len(opened)
