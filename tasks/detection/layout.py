"""Where things lie in a data set in the layout of COCO 2017.

instances   annotations/instances_train2017.json
images      train2017/
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ANNOTATIONS", "SPLITS", "images", "instances"]

ANNOTATIONS = "annotations"
SPLITS = ("train", "val")


def instances(root: Path, split: str) -> Path:
    """The instances JSON of `split` ("train" or "val")."""
    return root / ANNOTATIONS / f"instances_{split}2017.json"


def images(root: Path, split: str) -> Path:
    """The folder with the images of `split`."""
    return root / f"{split}2017"
