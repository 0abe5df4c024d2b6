"""A split of which no pixel's flow is known, and pictures of more than 8 bits, are refused before anything trains."""

import cv2
import numpy as np
import pytest
from PIL import Image

from nmbench.task import DataError
from nmbench_tasks.optical_flow import OpticalFlow, files

SIZE = (136, 150)


def write_kitti(root, valid=1, deep=True):
    """Ten pairs; the flow is 3 px to the right where it is `valid`, in 16 bits or, as a careless tool saves it, 8."""
    folder = root / "KittiFlow" / "training"
    for name in ("image_2", "flow_occ"):
        (folder / name).mkdir(parents=True)
    flow = np.zeros((*SIZE, 3), np.uint16)
    flow[..., 0], flow[..., 1], flow[..., 2] = valid, 2**15, 2**15 + 3 * 64  # OpenCV writes blue, green, red
    for number in range(10):
        for end in (10, 11):
            Image.new("RGB", SIZE[::-1], (number, end, 0)).save(folder / "image_2" / f"{number:06}_{end}.png")
        cv2.imwrite(str(folder / "flow_occ" / f"{number:06}_10.png"), flow if deep else (flow >> 8).astype(np.uint8))
    return root


def prepared(flow_spec, root, name="kitti"):
    spec = flow_spec(data=str(root), stages=name, evaluate_on=name, crop_width=128, crop_height=128)
    return OpticalFlow().prepare(spec, root.parent / "data")


def test_a_known_flow_is_accepted(flow_spec, tmp_path):
    assert prepared(flow_spec, write_kitti(tmp_path / "mine")).counts == {"kitti train": 8, "kitti val": 2}


def test_a_kitti_flow_of_8_bits_is_refused(flow_spec, tmp_path):
    with pytest.raises(DataError, match=r"000000_10.png has 8 bits a channel, not KITTI's three channels of 16"):
        prepared(flow_spec, write_kitti(tmp_path / "mine", deep=False))


def test_a_kitti_flow_that_is_nowhere_valid_is_refused(flow_spec, tmp_path):
    with pytest.raises(DataError, match=r"no pixel of kitti has a known flow"):
        prepared(flow_spec, write_kitti(tmp_path / "mine", valid=0))


@pytest.mark.parametrize(("split", "numbers"), [("training", (1, 2, 4, 5)), ("validation", (3, 6))])
def test_a_dense_flow_that_is_nowhere_a_number_is_refused_in_either_split(flow_spec, chairs, split, numbers):
    for number in numbers:
        path = chairs / "FlyingChairs" / "data" / f"{number:05d}_flow.flo"
        files.write_flo(path, np.full((2, *SIZE), np.nan))
    with pytest.raises(DataError, match=rf"no pixel of chairs has a known flow.*{numbers[0]:05d}_flow.flo"):
        prepared(flow_spec, chairs, "chairs")


def test_an_image_of_16_bits_is_refused(flow_spec, tmp_path):
    root = write_kitti(tmp_path / "mine")
    path = root / "KittiFlow" / "training" / "image_2" / "000002_11.png"
    Image.fromarray(np.full(SIZE, 30_000, np.uint16)).save(path)
    with pytest.raises(DataError, match=r"000002_11.png has more than 8 bits a channel"):
        prepared(flow_spec, root)
