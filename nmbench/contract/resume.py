"""Resume state on disk: tensors and plain values in a file of torch, believed only if it is what was written."""

import errno
import logging
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench._util.files import discard, loads, replacing, write_json
from nmbench.contract.spec import DataError

_log = logging.getLogger("nmbench.run")

_PATIENCE_S = 60.0  # of a rank, until rank 0 has cleared the folder


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path`, synced. Raises OSError."""
    import torch

    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(errno.EIO, str(error).splitlines()[0], str(path)) from error


def read_state(path: Path) -> dict[str, Any] | None:
    """What `write_state` wrote. A file of which a byte has changed, or that is torn, is put aside."""
    import torch

    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums, and does not look at them when it loads
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{broken} has changed since it was written")
        # weights_only: a resume file never executes code
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        _log.warning("resume state is put aside: %s: %s", path.name, error)
        path.replace(path.with_suffix(".unreadable"))
        return None
    return state


def claim(folder: Path, validity: Mapping[str, str], rank: int = 0) -> None:
    """Keep the state in `folder` if it was made under the same `validity` (code, data, versions), else remove it.

    Rank 0 removes it, and the others wait for that. Raises DataError in a rank whose data are not those of rank 0.
    """
    file = folder / "validity.json"
    end = time.monotonic() + _PATIENCE_S
    while _read(file) != dict(validity):
        if rank == 0:
            for path in (file, *folder.glob("phase-*")):  # the file first: it vouches for the others
                discard(path)
            write_json(file, dict(validity))
            return
        if time.monotonic() > end:
            raise DataError(f"rank {rank} sees other data than rank 0")
        time.sleep(0.1)


def _read(path: Path) -> Any:
    try:
        return loads(path.read_bytes())
    except (OSError, ValueError):
        return None
