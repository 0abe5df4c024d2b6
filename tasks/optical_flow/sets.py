"""torchvision's flow data sets by name, in an order that does not depend on the file system, and checked.

Pair        what a data set holds at one place
FlowSet     some pairs of one of torchvision's data sets
open_set    one of them, by name and split; every fault of its layout is a DataError
check       every file is there, whole, and fits its partners: smallest height and width, a hash of names and sizes
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor

from nmbench.task import DataError
from nmbench_tasks._shared.folders import stamp
from nmbench_tasks.optical_flow.files import flow_size, image_size
from nmbench_tasks.optical_flow.plan import LEAST

#: what torchvision looks for in a root
LAYOUT = {
    "chairs": "FlyingChairs/data/*_img1.ppm, *_img2.ppm, *_flow.flo and FlyingChairs/FlyingChairs_train_val.txt",
    "things": "FlyingThings3D/frames_cleanpass, frames_finalpass, optical_flow",
    "sintel": "Sintel/training/clean, final, flow",
    "kitti": "KittiFlow/training/image_2, flow_occ",
    "hd1k": "hd1k/hd1k_input/image_2, hd1k/hd1k_flow_gt/flow_occ",
}
_LARGEST = 1000.0  # px: a flow beyond it stands for "unknown"
_PART = 5  # every fifth scene, or pair where there are no scenes, may be held out


class Pair(NamedTuple):
    """`first`, `second`: (3, height, width) uint8. `flow`: (2, height, width) float32, px. `valid`: (height, width)."""

    first: Tensor
    second: Tensor
    flow: Tensor
    valid: Tensor


@dataclass(frozen=True)
class FlowSet:
    """`rows` of a torchvision data set. `sparse`: its truth has gaps (laser scans), so it must not be interpolated."""

    name: str
    dataset: Any
    rows: Sequence[int]
    sparse: bool

    def __len__(self) -> int:
        return len(self.rows)

    def files(self, place: int) -> tuple[Path, Path, Path]:
        """First image, second image, flow."""
        row = self.rows[place]
        first, second = self.dataset._image_list[row]
        return Path(first), Path(second), Path(self.dataset._flow_list[row])

    def __getitem__(self, place: int) -> Pair:
        """Raises DataError, naming the files, if they cannot be read or do not fit together."""
        flow_size(self.files(place)[2])  # or the reader would make room for whatever size a broken header says
        try:
            first, second, flow, *valid = self.dataset[self.rows[place]]
        except (OSError, ValueError, RuntimeError, SyntaxError, UnidentifiedImageError) as error:
            names = ", ".join(str(path) for path in self.files(place))
            raise DataError(f"cannot read the pair {names}: {error}; replace or remove it") from error
        if first.size != second.size or first.size[::-1] != flow.shape[1:]:
            shapes = f"{first.size}, {second.size}, {flow.shape[:0:-1]}"
            raise DataError(f"the pair {self.files(place)[0]} and its flow have different sizes: {shapes}")
        truth = torch.from_numpy(np.ascontiguousarray(flow, dtype=np.float32))
        known = torch.isfinite(truth).all(0) & (truth.abs() < _LARGEST).all(0)
        if valid:
            known &= torch.from_numpy(valid[0])
        return Pair(pil_to_tensor(first), pil_to_tensor(second), torch.where(known, truth, 0.0), known)

    def part(self, held_out: bool) -> FlowSet:
        """A fifth of the scenes, or the other four fifths of them."""
        scenes = sorted({self._scene(place) for place in range(len(self))})
        chosen = set(scenes[_PART - 1 :: _PART])
        rows = [row for place, row in enumerate(self.rows) if (self._scene(place) in chosen) == held_out]
        return replace(self, rows=rows)

    def _scene(self, place: int) -> str:
        """Pairs of one scene look alike: a folder in Sintel, a sequence number in HD1K; in KITTI each pair is one."""
        first = self.files(place)[0]
        return first.parent.name if self.name.startswith("sintel") else first.name.partition("_")[0]


def open_set(name: str, root: Path, split: str = "train") -> FlowSet:
    """`name`: chairs, or for instance sintel-clean; `split`: "train" or "val" ("embedded" is read as chairs).

    Raises DataError if the root, the split file or the images are missing, or image and flow files do not pair up.
    """
    family, _, variant = name.replace("embedded", "chairs").partition("-")
    if not root.is_dir():
        raise DataError(f"no data folder {root}; it should hold {LAYOUT[family]}")
    if family == "chairs":
        _check_split_file(root / "FlyingChairs")
    make, sparse = _loader(family, variant, split)
    try:
        dataset = make(str(root))
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot open {name} in {root}: {reason}\nit should hold {LAYOUT[family]}") from error
    if not len(dataset):
        raise DataError(f"no image pairs of {name} ({split}) in {root}\nit should hold {LAYOUT[family]}")
    if len(dataset._image_list) != len(dataset._flow_list):
        images, flows = len(dataset._image_list), len(dataset._flow_list)
        raise DataError(f"{name} ({split}) in {root} has {images} image pairs and {flows} flow files; is one missing?")
    order = sorted(range(len(dataset)), key=lambda row: (dataset._image_list[row], dataset._flow_list[row]))
    return FlowSet(name, dataset, order, sparse)


def _loader(family: str, variant: str, split: str) -> tuple[Callable[[str], Any], bool]:
    """Makes the data set, given its root; and does its truth have gaps? Only `chairs` and `things` have a val."""
    if family == "chairs":
        return lambda root: datasets.FlyingChairs(root, split=split), False
    if family == "things":
        part = "train" if split == "train" else "test"
        return lambda root: datasets.FlyingThings3D(root, split=part, pass_name=variant or "both"), False
    if family == "sintel":
        return lambda root: datasets.Sintel(root, split="train", pass_name=variant or "both"), False
    if family == "kitti":
        return lambda root: datasets.KittiFlow(root, split="train"), True
    return lambda root: datasets.HD1K(root, split="train"), True


def _check_split_file(folder: Path) -> None:
    """torchvision's loader pairs files and lines by their place, so one too few would shift all that follow."""
    path = folder / "FlyingChairs_train_val.txt"
    try:
        marks = path.read_text().split()
    except FileNotFoundError as error:
        raise DataError(f"no split file {path}\n{folder.parent} should hold {LAYOUT['chairs']}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the split file {path} cannot be read ({type(error).__name__})") from error
    if odd := next((mark for mark in marks if mark not in ("1", "2")), None):
        raise DataError(f"the split file {path} holds {odd!r}; each line must be 1 (training) or 2 (validation)")
    flows, images = (len(list((folder / "data").glob(f"*.{ending}"))) for ending in ("flo", "ppm"))
    if flows != len(marks) or images != 2 * flows:
        raise DataError(f"{folder}: {flows} flows, {images} images and {len(marks)} lines in {path.name} do not fit")


def check(pairs: FlowSet, root: Path, fingerprint: hashlib._Hash) -> tuple[int, int]:
    """Read the head of every file of `pairs`; names and sizes in bytes go into `fingerprint`, contents do not.

    Returns the smallest height and the smallest width.
    Raises DataError for the first file that is broken, of another size than its partners, or below 128 px.
    """
    least_height = least_width = 1 << 30
    for place in range(len(pairs)):
        files = pairs.files(place)
        width, height = _size_of(*files)
        least_height, least_width = min(least_height, height), min(least_width, width)
        for path in files:
            stamp(fingerprint, path.relative_to(root).as_posix(), path.stat().st_size)
    return least_height, least_width


def _size_of(first: Path, second: Path, flow: Path) -> tuple[int, int]:
    numbers = [re.findall(r"\d+", path.stem) for path in (first, flow)]
    if numbers[0][: len(numbers[1])] != numbers[1]:  # 00001_img1 and 00001_flow, frame_0007 and frame_0007
        raise DataError(f"the image {first} and the flow {flow} do not belong together; is a file missing before them?")
    size, other, truth = image_size(first), image_size(second), flow_size(flow)
    if size != other:
        raise DataError(f"the images {first} and {second.name} have different sizes: {_text(size)} and {_text(other)}")
    if size != truth:
        raise DataError(f"the image {first} is {_text(size)}, its flow {flow} {_text(truth)}")
    if min(size) < LEAST:
        raise DataError(f"the image {first} is {_text(size)}; RAFT takes at least {LEAST} px either way")
    return size


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
