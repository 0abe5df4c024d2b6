"""Where nmbench keeps what it can make again: compiled code and the descriptions of plugins."""

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """NMBENCH_CACHE, else `nmbench` in the user's cache folder."""
    if given := os.environ.get("NMBENCH_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmbench"
