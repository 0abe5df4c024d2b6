"""What a run leaves behind: a folder with the record, its page and the break-even figure.

record.json      a nmbench.kernels.bench.schema.Record
README.md        the same for people       break-even.png, .svg
"""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmbench._util.files import write_json, write_text
from nmbench.kernels.bench.schema import Record


def slug(name: str) -> str:
    """ "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "device"


def folder(
    device_name: str, suites: Sequence[str], all_suites: Sequence[str], device_type: str = "cuda", check: bool = False
) -> Path:
    """results/kernels/<device>-<suites>; "all" for all; a CPU's begins with cpu-, a check's ends with -check."""
    what = "all" if set(suites) == set(all_suites) else "+".join(suites)
    name = slug(device_name) if device_type == "cuda" else f"cpu-{slug(device_name)}"
    return Path("results") / "kernels" / f"{name}-{what}{'-check' if check else ''}"


def unused(to: Path) -> Path:
    """`to`, or with a number behind it the first that holds no record: what was measured before stays."""
    tried = itertools.chain([to], (to.with_name(f"{to.name}-{number}") for number in itertools.count(2)))
    return next(one for one in tried if not (one / "record.json").exists())


def write(record: Record, to: Path) -> list[str]:
    """Write record, figure and page; what could not be made, in words. JSON has null for what is not finite.

    Without the packages of a report the record is written all the same: `make gpu` runs where torch and triton are.
    """
    to.mkdir(parents=True, exist_ok=True)
    plain: Record = _finite(record)
    write_json(to / "record.json", plain)
    notes, drawn = [], False
    try:
        from nmbench.kernels.bench.figure import draw

        drawn = draw(plain, to / "break-even")
    except ImportError as error:
        notes.append(f"no figure: {error.name or error} is not installed (pip install 'nmbench[report]')")
    try:
        from nmbench.kernels.bench.page import page

        write_text(to / "README.md", page(plain, drawn))
    except ImportError as error:
        notes.append(f"no page: {error.name or error} is not installed (pip install 'nmbench[report]')")
    return notes


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
