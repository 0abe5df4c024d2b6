"""transposable: masks that keep N:M along the inputs and along the outputs, renewed now and then; STE.

Hubara et al. 2021, Accelerated Sparse Neural Training: A Provable and Efficient Method to Find N:M Transposable Masks;
code itayhubara/AcceleratedSparseNeuralTraining 425897d. The mask is made anew every 40 steps.

Departures: tiles are M outputs x M inputs, so that both products of training can be sparse; theirs are M * M
consecutive weights of one output channel, whose transpose does not keep the pattern. The solver is
tiles.transposable_mask, which keeps exactly N in each row and column with the largest sum, where their 2-approximation
leaves some short. A tile at the edge may keep fewer.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import FOLLOW, KEEP
from nmbench.sparsity.methods.sr_ste import SRSTE
from nmbench.sparsity.methods.sr_ste import Settings as Decay
from nmbench.sparsity.methods.tiles import transposable_mask
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.tiling import Tiling


class Settings(Decay):
    """Hyper-parameters."""

    every: int = Field(40, ge=1, description="optimizer steps from one mask to the next")
    lambda_w: float = Field(0.0, ge=0, description="decay of the pruned weights; the authors have none")


def tile_mask(layer: Layer, weight: Tensor) -> Tensor:
    """The transposable mask of a layer's weight, bool, of its shape."""
    if not torch.isfinite(weight).all():
        raise ValueError(f"{layer.name} holds NaN or infinity")
    tiling = Tiling(layer.grouping, layer.outputs, layer.pattern.m, layer.pattern.m)
    return tiling.join(transposable_mask(tiling.split(weight.abs()), layer.pattern.n), weight)


class Transposable(SRSTE):
    """Transposable masks of any N:M."""

    name = "transposable"
    settings = Settings  # type: ignore[assignment] # a wider one
    transposable = True

    def refuses(self, pattern: NMPattern) -> str:
        """Tiles need an input axis."""
        return "its tiles are of outputs and inputs" if pattern.axis == "kernel" else ""

    def rule(self, phase: int, step: int) -> str:
        """A new mask every so many steps."""
        return KEEP if step % int(self.hyper["every"]) else FOLLOW

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """N of each row and column of each M x M tile."""
        return tile_mask(layer, weight)
