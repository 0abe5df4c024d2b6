"""What reads a changed input of each kind.

FUZZERS    name -> what makes such a function in a folder, and the exceptions by which it may refuse
"""

from __future__ import annotations

import base64
import functools
import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign import mutation
from tests.campaign.model_readers import Reader, models, state
from tests.campaign.warm import PLUGINS

_REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "quick"


def _matrix(folder: Path) -> Reader:
    from nmbench._util.errors import UsageError
    from nmbench.plan import catalogue
    from nmbench.plan.matrix import load
    from nmbench.plan.unfold import alone, cells

    known = catalogue.catalogue(PLUGINS)
    shipped = Path(catalogue.__file__).parent / "matrices"
    texts = [path.read_text() for path in shipped.glob("*.toml")] + [_TINY] * 8

    def read(draw: random.Random) -> None:
        file = folder / "m.toml"
        file.write_bytes(mutation.toml(draw.choice(texts), draw))
        matrix = load(str(file))
        alone(matrix, known)
        for cell in cells(matrix, known)[:200]:
            assert cell.label
            assert json.dumps(cell.to_dict(), allow_nan=False)

    return read, (UsageError,)


_TINY = """name = "m"
scale = "smoke"
tasks = ["tiny"]
seeds = [0, 1]
timeout = 100
train = { steps = [10, 20] }
[[grid]]
pattern = ["2:4", "dense"]
method = ["sr-ste", "asp"]
alone = true
hyper = { }
"""


def _healthy() -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(_REFERENCE.glob("*/*/attempt-*/record.json"))]


def _record(folder: Path) -> Reader:
    from nmbench.plan.cell import Cell
    from nmbench.records.attempt import read_record
    from nmbench.records.columns import row
    from nmbench.records.schema import UnreadableRecord
    from nmbench.records.store import Store

    healthy = _healthy()
    store = Store(folder / "results", "m")

    def read(draw: random.Random) -> None:
        record = draw.choice(healthy)
        cell = Cell.from_dict(record["cell"])
        attempt = store.folder / cell.folder / "attempt-1"
        attempt.mkdir(parents=True, exist_ok=True)
        (attempt / "record.json").write_bytes(mutation.encoded(mutation.changed(record, draw), draw))
        for brief in (True, False):
            state = store.state(cell, brief=brief)
            assert state.record is None or isinstance(state.record.outcome, str)
        found = read_record(attempt / "record.json")
        row(found, "x")
        found.write(folder / "again.json")

    return read, (UnreadableRecord, ValueError)


def _report(folder: Path) -> Reader:
    """Whole reports, and the comparison of two folders; one record in three is changed."""
    from nmbench.analysis.two_sets import between
    from nmbench.document.markdown import markdown
    from nmbench.records.frame import load
    from nmbench.report.sections.two_sets import page
    from nmbench.report.write import write_report

    healthy = _healthy()

    def read(draw: random.Random) -> None:
        for number, record in enumerate(healthy):
            file = folder / "m" / f"c{number}" / "attempt-1" / "record.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            data = (
                mutation.encoded(mutation.changed(record, draw), draw)
                if number % 3 == 0
                else json.dumps(record).encode()
            )
            file.write_bytes(data)
        write_report(folder / "m", folder / "out", "m", formats=["md", "html"])
        mine, theirs = load(folder / "m"), load(_REFERENCE)
        markdown(page(mine, theirs, ("a", "b"), between(mine, theirs)))

    return read, ()


def _samples(folder: Path) -> Reader:
    import numpy as np

    from nmbench.contract import samples

    file = folder / "samples.json"
    image = np.zeros((4, 4, 3), np.uint8)
    samples.write([samples.checked("a", {"x": "t", "i": image}, {"y": "u"})], file)
    good = json.loads(file.read_bytes())

    def read(draw: random.Random) -> None:
        value = mutation.changed(good, draw)
        if draw.random() < 0.3:
            value = json.loads(json.dumps(good))
            broken = base64.b64encode(mutation.flipped(_png(draw), draw)).decode()
            value["samples"][0]["given"]["i"]["image"] = "data:image/png;base64," + broken
        file.write_bytes(mutation.encoded(value, draw))
        samples.read(file)

    return read, (ValueError, OSError)


def _png(draw: random.Random) -> bytes:
    """A picture, or one that says that it is large."""
    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (4, 3)).save(held, "PNG")
    data = held.getvalue()
    return (
        data
        if draw.random() < 0.5
        else data[:16] + struct.pack(">II", *draw.choices([0, 1, 60000, 2**31], k=2)) + data[24:]
    )


def _coco(folder: Path) -> Reader:
    from nmbench.task import DataError
    from nmbench_tasks.detection import coco

    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
    good = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}],
        "annotations": [{**entry, "segmentation": [[1, 1, 3, 1, 3, 3]]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    for split in coco.SPLITS:
        coco.images(folder, split).mkdir(parents=True)
        (coco.images(folder, split) / "a.jpg").write_bytes(b"x")
        coco.instances(folder, split).parent.mkdir(exist_ok=True)
        coco.instances(folder, split).write_text(json.dumps(good))

    def read(draw: random.Random) -> None:
        split = draw.choice(coco.SPLITS)
        coco.instances(folder, split).write_bytes(mutation.encoded(mutation.changed(good, draw), draw))
        try:
            coco.check(folder, 1, True)
        finally:
            coco.instances(folder, split).write_text(json.dumps(good))

    return read, (DataError,)


def _flow(folder: Path) -> Reader:
    from nmbench.task import DataError
    from nmbench_tasks.optical_flow.files import flow_size, image_size

    flo = b"PIEH" + struct.pack("<ii", 4, 3) + bytes(96)
    pfm = b"PF\n4 3\n-1.0\n" + bytes(144)

    def read(draw: random.Random) -> None:
        suffix, data = draw.choice(
            [("flo", flo), ("pfm", pfm), ("png", _png(draw)), ("ppm", b"P6\n4 3\n255\n" + bytes(36))]
        )
        if suffix == "flo" and draw.random() < 0.3:
            data = b"PIEH" + struct.pack("<ii", *draw.choices([2**31 - 1, -1, 0, 4], k=2)) + data[12:]
        file = folder / f"f.{suffix}"
        file.write_bytes(mutation.flipped(data, draw))
        (image_size if suffix == "ppm" else flow_size)(file)

    return read, (DataError,)


def _corpus(folder: Path) -> Reader:
    from nmbench.task import DataError
    from nmbench_tasks.translation.rawtext import scanned

    def read(draw: random.Random) -> None:
        file = folder / "train.en"
        file.write_bytes(mutation.flipped("a house\nein Haus \u00e9\n\u2028x\n".encode() * 3, draw))
        scanned(file)

    return read, (DataError,)


def _fairseq(folder: Path) -> Reader:
    """A folder of fairseq-preprocess, one of whose files is changed."""
    from nmbench.task import DataError
    from nmbench_tasks.translation import binarise
    from nmbench_tasks.translation.prepare import preprocessed
    from nmbench_tasks.translation.scales import Settings

    text = folder / "text"
    text.mkdir()
    (text / "dict.txt").write_text("a 3\nhouse 3\nHaus 3\n")
    for split in ("train", "test"):
        for language, words in (("en", "a house"), ("de", "a Haus")):
            (text / f"{split}.{language}").write_text(f"{words}\n" * 4)
    binarise._fairseq_preprocess(text, folder / "binary", ["train", "test"], "en", "de")
    files = {file: file.read_bytes() for file in sorted((folder / "binary").iterdir())}
    assert preprocessed(folder / "binary", Settings()).counts

    def read(draw: random.Random) -> None:
        file = draw.choice(list(files))
        file.write_bytes(mutation.flipped(files[file], draw))
        try:
            preprocessed(folder / "binary", Settings())
        finally:
            file.write_bytes(files[file])

    return read, (DataError,)


FUZZERS: dict[str, Callable[[Path], Reader]] = {
    "matrices": _matrix,
    "records, read as all commands read them": _record,
    "annotations of COCO": _coco,
    "flow and picture files": _flow,
    "samples": _samples,
    "corpora of translation": _corpus,
    "weights": functools.partial(models, converted=False),
    "converted models": functools.partial(models, converted=True),
    "a run's own state": state,
    "inputs of fairseq": _fairseq,
    "whole reports and comparisons": _report,
}
