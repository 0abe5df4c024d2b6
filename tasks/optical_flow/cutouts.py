"""Outlines of the foreground cut-outs: how opaque a point is, with a hard or a soft edge.

Cutout        an outline round a centre; `opacity(points)`
random_cutout a blob or a polygon
"""

from dataclasses import dataclass

import numpy as np

from nmbench_tasks._shared.affine import Array

_HARD = 1.0  # px: the edge of a hard shape is smoothed over one pixel, as a camera would
_SOFT = (3.0, 6.0)  # px
_WAVES = np.arange(2, 5)  # bumps round a blob


@dataclass(frozen=True)
class Cutout:
    """An outline round `centre` (x, y): a blob (`waves`: amplitude and phase of its bumps) or a polygon (`normals`).

    `radius` in px; `edge` is the width in px over which the opacity goes from 1 to 0.
    """

    centre: Array
    radius: float
    edge: float
    waves: Array | None = None
    normals: Array | None = None

    @property
    def reach(self) -> float:
        """No point farther than this from the centre is opaque at all."""
        widest = 1.0 if self.waves is None else 1.0 + float(np.abs(self.waves[0]).sum())
        return self.radius * widest + self.edge

    def opacity(self, points: Array) -> Array:
        """0..1 at `points` (..., 2); 0.5 on the outline."""
        away = points - self.centre
        distance = np.hypot(away[..., 0], away[..., 1])
        if self.waves is not None:
            outside = distance - self.radius * (1 + self._bumps(away, distance))
        else:
            assert self.normals is not None
            # inscribed in the circle too: an open polygon would reach everywhere
            outside = np.maximum((away @ self.normals.T).max(axis=-1) - 0.8 * self.radius, distance - self.radius)
        return np.clip(0.5 - outside / self.edge, 0.0, 1.0)

    def _bumps(self, away: Array, distance: Array) -> Array:
        """Sum of amplitude * cos(k * angle + phase), by powers of a complex number, which takes a third of the time."""
        assert self.waves is not None
        turn = (away[..., 0] + 1j * away[..., 1]) / np.maximum(distance, 1e-9)
        factors = self.waves[0] * np.exp(1j * self.waves[1])
        total = factors[-1]
        for factor in (*factors[-2::-1], 0, 0):  # Horner; the waves begin at k = 2
            total = total * turn + factor
        return np.asarray(np.real(total))


def random_cutout(rng: np.random.Generator, centre: Array, radius: float) -> Cutout:
    """A blob or a polygon of three to six sides, with a hard edge or a soft one."""
    edge = _HARD if rng.random() < 0.5 else float(rng.uniform(*_SOFT))
    if rng.random() < 0.5:
        amplitudes = rng.uniform(0.0, 0.15, len(_WAVES))
        return Cutout(centre, radius, edge, waves=np.stack([amplitudes, rng.uniform(0, 2 * np.pi, len(_WAVES))]))
    sides = int(rng.integers(3, 7))
    angles = 2 * np.pi * (np.arange(sides) + rng.uniform(-0.25, 0.25, sides)) / sides + rng.uniform(0, 2 * np.pi)
    return Cutout(centre, radius, edge, normals=np.stack([np.cos(angles), np.sin(angles)], axis=-1))
