"""vnm: V:N:M masks. A tile of V x M may use 4 of its columns, of which each row keeps N; trained as SR-STE.

Castro et al. 2023, VENOM: A Vectorized N:M Format for Unleashing the Power of Sparse Tensor Cores; code UDC-GAC/venom
8ddaf38 (end2end/grouped_nmv_tensor.py), whose mask of a weight this is: of all choices of columns the one with the
largest kept sum.

Departures: that is a pruning mask; here it follows the weights in training, renewed every `every` steps (ours). Tiles
at the edges are filled up with zeros.
"""

from __future__ import annotations

import itertools
import math

import torch
from pydantic import Field
from torch import Tensor

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import FOLLOW, KEEP
from nmbench.sparsity.methods.sr_ste import SRSTE
from nmbench.sparsity.methods.sr_ste import Settings as Decay
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.tiling import SharedColumns, Tiling

_COLUMNS = 4
_MOST = 1820  # those of M = 16
_TALLEST = 1024  # the authors go up to 128


class Settings(Decay):
    """Hyper-parameters."""

    v: int = Field(8, ge=1, le=_TALLEST, description="outputs of a tile, which share their columns")
    every: int = Field(10, ge=1, description="optimizer steps from one mask to the next")


def top(score: Tensor, n: int) -> Tensor:
    """The n largest along the last dimension, of equals the first; bool."""
    order = score.argsort(dim=-1, descending=True, stable=True)[..., :n]
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)


def column_mask(tiles: Tensor, n: int) -> Tensor:
    """tiles: (tiles, V, M), not negative. bool of that shape: n a row, within the 4 columns that keep most."""
    best, chosen = tiles.new_full((len(tiles),), -1.0), tiles.new_zeros((len(tiles), _COLUMNS), dtype=torch.long)
    for four in itertools.combinations(range(tiles.shape[2]), _COLUMNS):
        kept = tiles[..., list(four)].topk(n, dim=2).values.sum((1, 2))
        better = kept > best
        best = torch.where(better, kept, best)
        chosen[better] = torch.tensor(four, device=tiles.device)
    columns = chosen[:, None].expand(-1, tiles.shape[1], -1)
    mask = torch.zeros_like(tiles, dtype=torch.bool)
    return mask.scatter_(2, columns, top(tiles.gather(2, columns), n))


class VNM(SRSTE):
    """V:N:M masks."""

    name = "vnm"
    settings = Settings  # type: ignore[assignment] # a wider one

    def refuses(self, pattern: NMPattern) -> str:
        """4 columns of M, N of these."""
        if pattern.axis == "kernel":
            return "its tiles are of outputs and inputs"
        if not pattern.n <= _COLUMNS <= pattern.m or math.comb(pattern.m, _COLUMNS) > _MOST:
            return f"a tile uses {_COLUMNS} of M columns, so N is at most {_COLUMNS}, and M from {_COLUMNS} to 16"
        return ""

    def rule(self, phase: int, step: int) -> str:
        """A new mask every so many steps."""
        return KEEP if step % int(self.hyper["every"]) else FOLLOW

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """The best columns of each tile."""
        tiling = self.shared(layer).tiling
        return tiling.join(column_mask(tiling.split(weight.abs()), layer.pattern.n), weight)

    def shared(self, layer: Layer) -> SharedColumns:
        """Tiles of V outputs, or of all where a layer has fewer."""
        outputs = layer.values.shape[layer.outputs.dim] // layer.outputs.groups
        tiling = Tiling(layer.grouping, layer.outputs, min(int(self.hyper["v"]), outputs), layer.pattern.m)
        return SharedColumns(tiling, _COLUMNS)
