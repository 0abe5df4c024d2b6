"""Folders of data: those that a user names, checked, and the embedded ones, which are made.

user_folder     the folder that the setting `data` names
check_classes   does it have the classes that the settings say?
refuse_paper    the embedded data cannot serve scale paper
embedded        the folder of an embedded data set, made if it is missing, stale or incomplete
stamp           name and size of a file into a fingerprint
spread          places of a few examples, evenly over many
refuse_deep     a picture of more than 8 bits a channel
save_png        a picture, and its pixels into a fingerprint
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmbench.task import DataError, DataInfo, Spec, made_once

if TYPE_CHECKING:
    from PIL import Image


def user_folder(named: str, holds: str) -> Path:
    """The folder `named`, which should hold a set that `holds` describes. Raises DataError if there is none."""
    root = Path(named).expanduser()
    if not root.is_dir():
        raise DataError(f"no data folder {root}\nset data to a folder {holds}, or to 'embedded'")
    return root


def check_classes(root: Path | None, found: int, wanted: int, noun: str) -> None:
    """Raises DataError unless the data in `root` (None: the embedded ones) have as many classes as the settings say."""
    if found == wanted:
        return
    if root is None:
        raise DataError(f"the embedded data have {found} {noun}, the setting classes is {wanted}")
    raise DataError(
        f"{root} has {found} {noun}, the setting classes is {wanted}\n"
        f"set train = {{ classes = {found} }}, or name another folder in data"
    )


def refuse_paper(spec: Spec, needs: str, example: str) -> None:
    """Raises DataError at scale paper, which `needs` a public data set: `example` says how to name it."""
    if spec.scale == "paper":
        raise DataError(f"scale paper needs {needs}, and the setting data is 'embedded'\n{example}")


def embedded(folder: Path, version: int, make: Callable[[Path], Mapping[str, Any]]) -> DataInfo:
    """The data that `make(empty folder)` writes; it returns their counts and fingerprint.

    They are written once, safely from several processes; `version` is to be raised whenever they change.
    """
    manifest = made_once(folder, {"version": version}, make)
    return DataInfo(folder, manifest["counts"], manifest["fingerprint"])


def stamp(fingerprint: hashlib._Hash, name: str, size: int) -> None:
    """Add a file's name and its size in bytes: reading all of a large set would take longer than a cell."""
    fingerprint.update(f"{name}\0{size}\n".encode(errors="backslashreplace"))


def spread(length: int, count: int) -> list[int]:
    """`count` places (all of them if `count` is 0 or more than there are) of `length`, evenly spread."""
    count = min(count or length, length)
    return [number * length // count for number in range(count)]


def refuse_deep(image: Image.Image, path: str | Path) -> None:
    """Raises DataError for an `image` of 16 or 32 bits a channel: made RGB it would be white, or black, all over."""
    if image.mode.startswith(("I", "F")):
        raise DataError(f"the image {path} has more than 8 bits a channel (mode {image.mode}); scale it to 8 bits")


def save_png(pixels: NDArray[np.uint8], path: Path, fingerprint: hashlib._Hash, name: str) -> None:
    """Write `pixels` (height, width, 3) to `path`; they go into `fingerprint` under `name`.

    Pixels, not the file's bytes: another zlib packs the same picture differently.
    """
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=1)
    fingerprint.update(name.encode() + pixels.tobytes())
