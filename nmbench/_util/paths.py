"""Where nmbench keeps what it can make again: compiled code, descriptions of plugins, headlines of records."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_dir() -> Path:
    """NMBENCH_CACHE, else `nmbench` in the user's cache folder."""
    return Path(os.environ.get("NMBENCH_CACHE") or user_cache_path("nmbench"))
