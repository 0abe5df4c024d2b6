"""The embedded data set on disk: scenes of digits in the layout of COCO 2017, below <data root>/detection.

    prepare    the folder, made if it is missing, stale or incomplete

Layout: train2017/*.png, val2017/*.png, annotations/instances_{train,val}2017.json (masks as compressed RLE), and
`manifest.json` (nmbench.task.made_once).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nmbench.task import DataInfo, Spec
from nmbench_tasks._shared import folders
from nmbench_tasks._shared.drawing import CLASSES
from nmbench_tasks.detection import coco, scenes
from nmbench_tasks.detection.scales import Settings

#: to be raised whenever the scenes change
VERSION = 1
NAME = f"digit-scenes-v{VERSION}"


def prepare(spec: Spec, root: Path) -> DataInfo:
    """The embedded data below `root`, written if need be. Safe to call from several processes at once.

    Raises DataError if they cannot serve the settings of `spec`.
    """
    holds = "annotations/, train2017/ and val2017/"
    folders.refuse_paper(spec, "COCO 2017", f'name its root, with {holds} in it: train = {{ data = "/path/to/coco" }}')
    folders.check_classes(None, CLASSES, Settings.of(spec).classes, "classes")
    return folders.embedded(root / "detection" / NAME, VERSION, _write_set)


def _write_set(folder: Path) -> dict[str, Any]:
    """All splits; what the manifest says of them."""
    fingerprint = hashlib.sha256()
    counts = {split: _write_split(folder, split, fingerprint) for split in scenes.SPLITS}
    return {"counts": counts, "fingerprint": fingerprint.hexdigest()}


def _write_split(folder: Path, split: str, fingerprint: hashlib._Hash) -> int:
    """Images and annotations of `split`; returns the number of images."""
    target = coco.images(folder, split)
    target.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes.scenes(split), start=1):
        name = f"{number:012d}.png"
        folders.save_png(scene.pixels, target / name, fingerprint, f"{split}/{name}")
        images.append({"id": number, "file_name": name, "width": scenes.SIZE, "height": scenes.SIZE})
        annotations += [_annotation(len(annotations) + k, number, o) for k, o in enumerate(scene.objects, start=1)]
    categories = [{"id": c + 1, "name": str(c), "supercategory": "digit"} for c in range(CLASSES)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    fingerprint.update(text.encode())
    path = coco.instances(folder, split)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return len(images)


def _annotation(identity: int, image: int, found: scenes.Object) -> dict[str, Any]:
    """One object in COCO's words. `original` (the row in load_digits) is an extra that COCO's tools pass over."""
    import numpy as np
    from pycocotools import mask

    rle = mask.encode(np.asfortranarray(found.mask.astype(np.uint8)))
    return {
        "id": identity,
        "image_id": image,
        "category_id": found.label + 1,
        "bbox": list(found.box),
        "area": int(found.mask.sum()),
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
        "original": found.original,
    }
