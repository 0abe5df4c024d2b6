"""Limits of an axis that one wild value cannot spoil.

spread      the limits that hold all values but the few that are far from all others
edge        where on the axis a value is drawn, and whether it lies beyond the edge
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["edge", "spread"]

_FAR = 3.0  # times as far from the centre as the next value
_SHARE = 0.2  # of the values may be left outside, and one of three or four


def spread(values: Iterable[float], centre: float, pad: float = 0.08) -> tuple[float, float]:
    """(low, high) around `centre` and the finite values; those far beyond all others, few, stay outside.

    `pad` is a share of the width, added on both sides. Where there is no width, one is made up.
    """
    known = sorted((value for value in values if math.isfinite(value)), key=lambda value: abs(value - centre))
    spare = max(int(_SHARE * len(known)), len(known) > 2)
    while spare and len(known) > 1 and abs(known[-1] - centre) > _FAR * abs(known[-2] - centre) > 0:
        known.pop()
        spare -= 1
    low, high = min([centre, *known]), max([centre, *known])
    if low == high:
        half = 0.05 * abs(centre) or 0.5
        return low - half, high + half
    return low - pad * (high - low), high + pad * (high - low)


def edge(value: float, limits: tuple[float, float]) -> tuple[float, int]:
    """(the value or the limit that it lies beyond, -1 below, 0 inside, 1 above)."""
    low, high = limits
    return (low, -1) if value < low else (high, 1) if value > high else (value, 0)
