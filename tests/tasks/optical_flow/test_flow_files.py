"""Writers, read back through torchvision, and the heads of files."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.datasets import FlyingChairs
from torchvision.datasets._optical_flow import _read_flo

from nmbench.task import DataError
from nmbench_tasks.optical_flow import embedded, files


def test_the_embedded_data_are_what_torchvisions_loader_reads(flow_data, monkeypatch):
    monkeypatch.setattr(embedded, "SPLITS", {"train": 6, "val": 3})
    for split in ("train", "val"):
        read = FlyingChairs(str(flow_data.path), split=split)
        assert len(read) == flow_data.counts[split]
        for (first, second, flow), scene in zip(read, embedded.scenes(split), strict=True):
            assert np.array_equal(np.asarray(first), scene.first)
            assert np.array_equal(np.asarray(second), scene.second)
            assert np.array_equal(flow, scene.flow)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data set of two pairs below tmp_path, quick to write again."""
    monkeypatch.setattr(embedded, "SPLITS", {"train": 1, "val": 1})
    return embedded.prepare(tmp_path / "data")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_written_again_elsewhere_it_has_the_same_bytes(tiny, tmp_path):
    again = embedded.prepare(tmp_path / "elsewhere")
    assert again.fingerprint == tiny.fingerprint
    assert contents(again.path) == contents(tiny.path)
    assert len(contents(tiny.path)) == 2 * 3 + 2  # the pairs, the split file, the manifest


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 999))
def test_flows_and_images_survive_writing(tmp_path, height, width, seed):
    from PIL import Image

    rng = np.random.default_rng(seed)
    flow = rng.normal(0, 100, (2, height, width)).astype(np.float32)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    files.write_flo(tmp_path / "a.flo", flow)
    files.write_ppm(tmp_path / "a.ppm", image)
    assert np.array_equal(_read_flo(str(tmp_path / "a.flo")), flow)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.ppm")), image)
    assert files.flow_size(tmp_path / "a.flo") == files.image_size(tmp_path / "a.ppm") == (width, height)


@pytest.mark.parametrize(
    ("write", "array", "said"),
    [
        (files.write_flo, np.zeros((3, 4, 4)), "a flow must be"),
        (files.write_ppm, np.zeros((4, 4, 3)), "an image must be"),
        (files.write_ppm, np.zeros((4, 4), np.uint8), "an image must be"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, write, array, said):
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "a", array)


FLO = files.FLO_MAGIC + np.array([3, 2], "<i4").tobytes() + bytes(48)
PFM = b"PF\n3 2\n-1.0\n" + bytes(72)
BROKEN = {
    "magic": ("a.flo", b"PIEX" + FLO[4:], "wrong magic number"),
    "empty": ("a.flo", b"", "wrong magic number"),
    "short head": ("a.flo", FLO[:10], "within its header"),
    "truncated": ("a.flo", FLO[:-1], "truncated: 59 bytes, 60 for 3 x 2 px"),
    "too long": ("a.flo", FLO + b"x", "too long"),
    "no size": ("a.flo", FLO[:4] + bytes(8), "says that it is 0 x 0"),
    "no pfm": ("a.pfm", b"XX" + PFM[2:], "does not begin as a PFM"),
    "short pfm": ("a.pfm", PFM[:-4], "truncated"),
    "no image": ("a.png", b"nothing", "cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_flow_files_are_named(tmp_path, kind):
    name, content, message = BROKEN[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        files.flow_size(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_whole_flow_files_have_their_size(tmp_path):
    for name, content in (("a.flo", FLO), ("a.pfm", PFM), ("b.pfm", b"Pf\n3 2\n1.0\n" + bytes(24))):
        (tmp_path / name).write_bytes(content)
        assert files.flow_size(tmp_path / name) == (3, 2)
