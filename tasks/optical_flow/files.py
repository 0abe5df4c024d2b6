"""Files of flow data sets: the FlyingChairs format written, the heads of all formats read, a user's set checked.

write_ppm, write_flo, write_split    an image (binary PPM, P6), a flow (Middlebury), training and validation pairs
image_size, flow_size                from the heads of files; .flo, .pfm (FlyingThings3D), .png (KITTI, HD1K)
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nmbench.task import DataError
from nmbench_tasks._shared.folders import refuse_deep

#: the first bytes of a .flo file: the float32 202021.25, which reads PIEH
FLO_MAGIC = b"PIEH"
#: bytes before the values: magic number, width, height
FLO_HEADER = 12
#: what stands in the split file
TRAIN, VAL = 1, 2


def write_ppm(path: Path, image: np.ndarray) -> None:
    """`image`: (height, width, 3) uint8. Raises ValueError for anything else."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 (height, width, 3), not {image.dtype} {image.shape}")
    height, width, _ = image.shape
    path.write_bytes(f"P6\n{width} {height}\n255\n".encode() + np.ascontiguousarray(image).tobytes())


def write_flo(path: Path, flow: np.ndarray) -> None:
    """`flow`: (2, height, width), in px, x before y. Raises ValueError for another shape."""
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"a flow must be (2, height, width), not {flow.shape}")
    _, height, width = flow.shape
    values = np.ascontiguousarray(flow.transpose(1, 2, 0), dtype="<f4")
    path.write_bytes(FLO_MAGIC + np.array([width, height], dtype="<i4").tobytes() + values.tobytes())


def write_split(path: Path, marks: Sequence[int]) -> None:
    """One line a pair, in the order of the file names: 1 for training, 2 for validation."""
    path.write_text("".join(f"{mark}\n" for mark in marks))


_REPLACE = "replace it or remove the pair"


def image_size(path: Path) -> tuple[int, int]:
    """(width, height). Raises DataError if the file is missing or is no image."""
    try:
        with Image.open(path) as image:
            refuse_deep(image, path)
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the image {path} cannot be read ({type(error).__name__}); {_REPLACE}") from error


def flow_size(path: Path) -> tuple[int, int]:
    """(width, height). Raises DataError if the file is missing, is no flow, or is shorter or longer than it says."""
    if path.suffix == ".png":
        size = image_size(path)
        with path.open("rb") as file:
            depth, colour = file.read(26)[24:]  # of the IHDR chunk, which stands first
        if (depth, colour) != (16, 2):  # 2: red, green, blue
            raise DataError(f"the flow {path} has {depth} bits a channel, not KITTI's three channels of 16; {_REPLACE}")
        return size
    try:
        with path.open("rb") as file:
            head = file.read(64)
        held = path.stat().st_size
    except OSError as error:
        raise DataError(f"the flow {path} cannot be read ({error.strerror}); {_REPLACE}") from error
    width, height, expected = _flo(path, head) if path.suffix == ".flo" else _pfm(path, head)
    if held != expected:
        state = "truncated" if held < expected else "too long"
        raise DataError(f"the flow {path} is {state}: {held} bytes, {expected} for {width} x {height} px; {_REPLACE}")
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
