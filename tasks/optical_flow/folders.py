"""Checks of a user's data set, before anything trains on it: every file is there, whole, and fits its partners.

check    FlowSet -> its smallest height and width, and a hash of names and sizes
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from nmbench.task import DataError
from nmbench_tasks._shared.folders import stamp
from nmbench_tasks.optical_flow.headers import flow_size, image_size
from nmbench_tasks.optical_flow.plan import LEAST
from nmbench_tasks.optical_flow.sets import FlowSet

__all__ = ["check"]


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
