"""The embedded data set on disk: written once as FlyingChairs, below <data root>/optical-flow.

    prepare      the folder, made if it is missing, stale or incomplete

Layout: FlyingChairs/data/<number>_img1.ppm, _img2.ppm, _flow.flo, FlyingChairs/FlyingChairs_train_val.txt, and
`manifest.json` (nmbench.task.made_once).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench.task import DataInfo
from nmbench_tasks._shared import folders
from nmbench_tasks.optical_flow import files, scenes

#: to be raised whenever the pairs change
VERSION = 1
NAME = f"moving-photographs-v{VERSION}"
_MARKS = {"train": files.TRAIN, "val": files.VAL}


def prepare(root: Path) -> DataInfo:
    """The embedded data below `root`, written if need be. Safe to call from several processes at once."""
    return folders.embedded(root / "optical-flow" / NAME, VERSION, _write_pairs)


def _write_pairs(folder: Path) -> Mapping[str, Any]:
    data = folder / "FlyingChairs" / "data"
    data.mkdir(parents=True)
    fingerprint = hashlib.sha256()
    marks: list[int] = []
    for split in scenes.SPLITS:
        for scene in scenes.scenes(split):
            marks.append(_MARKS[split])
            stem = f"{len(marks):05d}"
            files.write_ppm(data / f"{stem}_img1.ppm", scene.first)
            files.write_ppm(data / f"{stem}_img2.ppm", scene.second)
            files.write_flo(data / f"{stem}_flow.flo", scene.flow)
            fingerprint.update(stem.encode() + scene.first.tobytes() + scene.second.tobytes() + scene.flow.tobytes())
    files.write_split(folder / "FlyingChairs" / "FlyingChairs_train_val.txt", marks)
    return {"counts": dict(scenes.SPLITS), "fingerprint": fingerprint.hexdigest()}
