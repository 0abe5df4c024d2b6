"""The C(M, N) ways to keep N of M, and scores of them beside a weight."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.pattern import NMPattern


def combinations(layer: Layer) -> Tensor:
    """(C(M, N), M) of 0 and 1, in the order of itertools, in the weight's dtype."""
    asked, like = layer.asked, layer.values
    made = torch.zeros(math.comb(asked.m, asked.n), asked.m, dtype=like.dtype, device=like.device)
    rows = torch.tensor(list(itertools.combinations(range(asked.m), asked.n)), device=like.device)
    return made.scatter_(1, rows, 1.0)


def too_many(pattern: NMPattern, most: int) -> str:
    """Why a method that scores each of the combinations cannot do `pattern`; "" where there are at most `most`."""
    count = math.comb(pattern.m, pattern.n)
    return f"it scores each combination of N out of M, and takes at most {most} of them" if count > most else ""


def group_count(layer: Layer) -> int:
    """Number of groups of the weight, short ones included."""
    outer, size, inner = layer.grouping.logical(layer.values.shape, layer.asked.axis)
    return outer * inner * -(-size // layer.asked.m)
