"""Settings of tasks and methods in their canonical form.

plain      a value in canonical form: whole floats are integers, tuples are lists
canonical  JSON text that is the same for equal settings
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["canonical", "plain"]


def plain(value: Any) -> Any:
    """`value` in canonical form: 20.0 and 20 are the same setting, and tuples are lists."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def canonical(value: Any) -> str:
    """JSON text that is the same for equal settings: sorted keys, no spaces, whole floats as integers.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
