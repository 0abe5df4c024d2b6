"""Writers of the FlyingChairs format.

write_ppm     an image, as binary PPM (P6)
write_flo     a flow, in the Middlebury format
write_split   which pairs are for training and which for validation
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["FLO_HEADER", "FLO_MAGIC", "TRAIN", "VAL", "write_flo", "write_ppm", "write_split"]

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
