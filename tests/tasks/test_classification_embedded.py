"""The embedded data: what is on disk, that it is always the same, and that prepare can be called anyhow."""

import hashlib
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from nmbench.task import DataError, DataInfo
from nmbench_tasks.classification import digits
from nmbench_tasks.classification import embedded as module


def bytes_of(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{p.relative_to(folder)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
    return "\n".join(parts)


def test_it_is_an_image_folder_with_the_counts_it_claims(embedded):
    for split in ("train", "val"):
        found = ImageFolder(embedded.path / split)
        assert found.classes == [str(c) for c in range(10)]
        assert len(found) == embedded.counts[split]
        assert set(np.bincount(found.targets)) == {digits.SPLITS[split]}
    assert embedded.counts["train"] >= 6000
    assert embedded.counts["val"] >= 2000


def test_no_handwritten_original_is_in_both_splits(embedded):
    rows = {s: {p.name[:4] for p in (embedded.path / s).glob("*/*.png")} for s in ("train", "val")}
    assert rows["train"].isdisjoint(rows["val"])
    assert len(rows["train"]) + len(rows["val"]) == 1797
    assert len(rows["val"]) == 10 * digits.VAL_ORIGINALS


def test_the_label_of_a_picture_is_that_of_its_original(embedded):
    from sklearn.datasets import load_digits

    target = load_digits().target
    assert all(target[int(p.name[:4])] == int(p.parent.name) for p in embedded.path.glob("*/*/*.png"))


def test_photograph_regions_do_not_overlap():
    (a, b), (c, d) = digits._REGIONS["train"], digits._REGIONS["val"]
    assert a < b <= c < d


def test_pictures_on_disk_are_the_generated_ones(embedded):
    picture = next(digits.pictures("val"))
    assert picture.pixels.shape == (32, 32, 3)
    assert picture.pixels.dtype == np.uint8
    path = embedded.path / "val" / "0" / f"{picture.original:04d}-00000.png"
    assert np.array_equal(np.asarray(Image.open(path)), picture.pixels)


def prepare_and_report(root: Path, barrier, queue) -> None:
    barrier.wait()
    queue.put(module.prepare(root))


def test_two_processes_at_once_write_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "SPLITS", {"train": 20, "val": 10})
    context = multiprocessing.get_context("fork")
    barrier, infos, writes = context.Barrier(2), context.Queue(), context.Queue()
    rebuild = module._rebuild
    monkeypatch.setattr(module, "_rebuild", lambda folder: (writes.put(os.getpid()), rebuild(folder)))
    started = [context.Process(target=prepare_and_report, args=(tmp_path, barrier, infos)) for _ in range(2)]
    for process in started:
        process.start()
    first, second = (infos.get(timeout=60) for _ in started)
    for process in started:
        process.join(timeout=60)
    assert first == second
    assert first.counts == {"train": 200, "val": 100}
    assert writes.get(timeout=5)
    assert writes.empty()
    assert [p.name for p in first.path.parent.iterdir() if "partial" in p.name] == []


def test_written_again_elsewhere_it_has_the_same_bytes(tiny, tmp_path):
    again = module.prepare(tmp_path / "elsewhere")
    assert again.fingerprint == tiny.fingerprint
    assert bytes_of(again.path) == bytes_of(tiny.path)


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> DataInfo:
    """A data set of 30 pictures below tmp_path, quick to write again."""
    monkeypatch.setattr(digits, "SPLITS", {"train": 2, "val": 1})
    return module.prepare(tmp_path)


def test_data_that_are_whole_are_not_written_again(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_rebuild", lambda folder: pytest.fail("it was written again"))
    assert module.prepare(tmp_path) == tiny


def harm(kind: str, folder: Path) -> None:
    victim = next((folder / "val" / "3").glob("*.png"))
    manifest = folder / "manifest.json"
    match kind:
        case "remove":
            victim.unlink()
        case "add":
            (victim.parent / "stray.png").write_bytes(b"x")
        case "truncate":
            os.truncate(victim, 10)
        case "class":
            shutil.rmtree(victim.parent)
        case "manifest":
            manifest.write_text(manifest.read_text()[:-20])
        case "version":
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 0}))


@pytest.mark.parametrize("kind", ["remove", "add", "truncate", "class", "manifest", "version"])
def test_damage_is_found_and_made_good(tiny, tmp_path, kind):
    before = bytes_of(tiny.path)
    harm(kind, tiny.path)
    assert bytes_of(tiny.path) != before
    assert module.prepare(tmp_path) == tiny
    assert bytes_of(tiny.path) == before


def test_what_a_killed_process_left_is_cleared_away(tiny, tmp_path):
    left = tiny.path.with_name(f".{module.NAME}.partial") / "train" / "0"
    left.mkdir(parents=True)
    (left / "half.png").write_bytes(b"")
    harm("remove", tiny.path)
    assert module.prepare(tmp_path) == tiny
    assert len(list(tiny.path.glob("*/*/*.png"))) == 30
    assert not left.exists()


def test_a_killed_writer_leaves_no_data_set_behind(tmp_path, monkeypatch):
    def broken(split):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "pictures", broken)
    with pytest.raises(KeyboardInterrupt):
        module.prepare(tmp_path)
    assert not (tmp_path / "classification" / module.NAME).exists()


def test_settings_that_it_cannot_serve(spec_of):
    with pytest.raises(DataError, match="/path/to/imagenet"):
        module.check_settings(spec_of(scale="paper"))
    with pytest.raises(DataError, match="10 classes"):
        module.check_settings(spec_of(classes=7))
