"""One launch over many weights: which program works on which piece of which weight, in tables on the device.

A row describes one weight. A piece is (row, tile): program p does tile `pieces[p, 1]` of row `pieces[p, 0]`. This
module needs no triton.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def upload(numbers: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """An int64 matrix on `device`; through pinned memory on CUDA, so that nothing waits."""
    return _sent(torch.tensor(numbers, dtype=torch.int64), device)


def _sent(made: Tensor, device: torch.device) -> Tensor:
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


@functools.lru_cache(maxsize=128)  # rows change with every address, pieces only with the sizes
def _pieces(tiles: tuple[int, ...], device: torch.device) -> Tensor:
    counts = torch.tensor(tiles)
    row = torch.repeat_interleave(torch.arange(len(tiles)), counts)
    tile = torch.arange(len(row)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    made = torch.stack([row, tile], dim=1).to(torch.int32)
    return _sent(made, device)


class Table:
    """rows: int64 (weights, fields). tiles: of each row, so many programs take it. `programs`: of the launch."""

    def __init__(self, rows: Sequence[Sequence[int]], tiles: Sequence[int], device: torch.device) -> None:
        with torch.inference_mode(False):
            self.rows = upload(rows, device)
            self.pieces = _pieces(tuple(tiles), device)
        self.programs = sum(tiles)
