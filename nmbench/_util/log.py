"""Messages for whoever looks into a run: `NMBENCH_LOG=debug nmbench run quick`."""

import logging
import os

from nmbench._util.errors import UsageError, nearest

_LEVELS = ("debug", "info", "warning", "error")


def set_up() -> None:
    """Send the messages of `nmbench` to standard error, from the level in NMBENCH_LOG on (warnings without it).

    For a process of nmbench's own; as a library it leaves logging to the program that uses it.
    Raises UsageError for an unknown level.
    """
    level = os.environ.get("NMBENCH_LOG") or "warning"
    if level.lower() not in _LEVELS:
        raise UsageError(f"NMBENCH_LOG={level}: no such level{nearest(level.lower(), _LEVELS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("nmbench")
    logger.setLevel(level.upper())
    logger.handlers[:] = [handler]
