"""Sizes of images and flows from the heads of their files, without reading what follows.

image_size    any image that PIL knows
flow_size     .flo (Middlebury), .pfm (FlyingThings3D), .png (KITTI, HD1K)
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from nmbench.task import DataError
from nmbench_tasks.optical_flow.writers import FLO_HEADER, FLO_MAGIC

__all__ = ["flow_size", "image_size"]

_REPLACE = "replace it or remove the pair"


def image_size(path: Path) -> tuple[int, int]:
    """(width, height). Raises DataError if the file is missing or is no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the image {path} cannot be read ({type(error).__name__}); {_REPLACE}") from error


def flow_size(path: Path) -> tuple[int, int]:
    """(width, height). Raises DataError if the file is missing, is no flow, or is shorter or longer than it says."""
    if path.suffix == ".png":
        return image_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"the flow {path} cannot be read ({error.strerror}); {_REPLACE}") from error
    width, height, expected = _flo(path, head) if path.suffix == ".flo" else _pfm(path, head)
    if size != expected:
        state = "truncated" if size < expected else "too long"
        raise DataError(f"the flow {path} is {state}: {size} bytes, {expected} for {width} x {height} px; {_REPLACE}")
    return width, height


def _flo(path: Path, head: bytes) -> tuple[int, int, int]:
    """Width, height and the size in bytes that the file should have."""
    if head[:4] != FLO_MAGIC:
        raise DataError(f"the flow {path} has a wrong magic number: {head[:4]!r}, not {FLO_MAGIC!r}; {_REPLACE}")
    if len(head) < FLO_HEADER:
        raise DataError(f"the flow {path} is truncated: it ends within its header; {_REPLACE}")
    width, height = (int(n) for n in np.frombuffer(head[4:FLO_HEADER], dtype="<i4"))
    if width < 1 or height < 1:
        raise DataError(f"the flow {path} says that it is {width} x {height} px; {_REPLACE}")
    return width, height, FLO_HEADER + 8 * width * height


def _pfm(path: Path, head: bytes) -> tuple[int, int, int]:
    found = re.match(rb"(PF|Pf)\s*\n(\d+)\s(\d+)\s*\n[^\n]*\n", head)
    if not found:
        raise DataError(f"the flow {path} does not begin as a PFM file does; {_REPLACE}")
    width, height = int(found[2]), int(found[3])
    return width, height, found.end() + 4 * (3 if found[1] == b"PF" else 1) * width * height
