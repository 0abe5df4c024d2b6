"""Evaluation examples that a cell keeps for the report: what was given, and what the model made of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmbench._util.files import loads, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shown = str | NDArray[np.uint8]
else:
    Shown = Any

FILE = "samples.json"
_PNG = "data:image/png;base64,"
_MOST_PIXELS = 2**24  # of an image that is decoded: a few bytes may say that they are terabytes


@dataclass(frozen=True)
class Sample:
    """`given` is what every cell of the task shares, `output` what this model answered; texts, or (H, W, 3) uint8."""

    name: str
    given: Mapping[str, Shown]
    output: Mapping[str, Shown]


def checked(name: str, given: Mapping[str, Shown], output: Mapping[str, Shown]) -> Sample:
    """A sample. Raises ValueError for a value that is neither a text nor an RGB image in uint8."""
    import numpy as np

    for key, value in [*dict(given).items(), *dict(output).items()]:
        image = np.asarray(value)
        if isinstance(value, str) or (
            image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size
        ):
            continue
        raise ValueError(
            f"sample {name!r}: {key!r} is neither a text nor a uint8 image (height, width, 3), but "
            f"{image.dtype} {image.shape}"
        )
    return Sample(str(name), dict(given), dict(output))


def write(samples: Sequence[Sample], path: Path) -> None:
    """Write `samples`, as `checked` makes them, to `path`. Raises OSError."""
    entries = [
        {
            "name": sample.name,
            "given": {key: _encoded(value) for key, value in sample.given.items()},
            "output": {key: _encoded(value) for key, value in sample.output.items()},
        }
        for sample in samples
    ]
    write_json(path, {"samples": entries}, indent=None)


def read(path: Path) -> list[Sample]:
    """What `write` wrote. Raises ValueError if the file is broken, OSError if it cannot be read."""
    try:
        entries = loads(path.read_bytes())["samples"]
        return [
            Sample(
                str(entry["name"]),
                {str(key): _decoded(value) for key, value in entry["given"].items()},
                {str(key): _decoded(value) for key, value in entry["output"].items()},
            )
            for entry in entries
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} holds no samples ({type(error).__name__}: {error})") from error


def _encoded(value: Shown) -> dict[str, str]:
    if isinstance(value, str):
        return {"text": value}
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(value)).save(buffer, format="PNG", optimize=True)
    return {"image": _PNG + base64.b64encode(buffer.getvalue()).decode("ascii")}


def _decoded(value: Mapping[str, str]) -> Shown:
    if "text" in value:
        return str(value["text"])
    import numpy as np
    from PIL import Image

    data = base64.b64decode(value["image"].removeprefix(_PNG), validate=True)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many to be shown")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # a decoder raises what it likes for the bytes of a stranger
        raise ValueError(f"an image cannot be decoded ({error})") from error
