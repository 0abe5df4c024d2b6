"""A 2:4 sample of a gradient that has the gradient as its mean, with the least variance (MVUE).

Chmiel et al. 2022, Minimum Variance Unbiased N:M Sparsity for the Neural Gradients; as `MVUE24_approx` of
huyz2023/2by4-pretrain 9e33012: two of each four without replacement, the chance of an element being proportional to its
magnitude, its value divided by the chance that it is drawn. (The exact variant of the same repository is biased.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from nmbench.sparsity.clock import Clock
from nmbench.sparsity.layer import Layer


def inclusion(size: Tensor) -> Tensor:
    """How likely each of four is among two that are drawn one after the other.

    size: (groups, 4), above 0; an element's chance to come first is its share of its group. The sums leave out one
    each, instead of taking it off: beside one large element nothing would be left of three small ones.
    """
    odds = size / _others(size)
    return size / size.sum(1, keepdim=True) * (1 + _others(odds))


def _others(four: Tensor) -> Tensor:
    """Of each element the sum of the other three."""
    return torch.stack([four[:, [j for j in range(4) if j != i]].sum(1) for i in range(4)], 1)


def sample_2_of_4(grad: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Two of each four consecutive elements of `grad`, of any shape with 4 dividing its size, the others zero.

    Its mean over draws is `grad`.
    """
    four = grad.reshape(-1, 4)
    size = four.abs().float() + torch.finfo(torch.float32).eps
    chance = size / size.sum(1, keepdim=True)
    waits = torch.empty_like(chance).exponential_(generator=generator) / chance  # the first two to arrive are the draw
    before = torch.zeros_like(waits, dtype=torch.int8)
    for j, k in itertools.combinations(range(4), 2):
        first = waits[:, j] <= waits[:, k]
        before[:, k] += first
        before[:, j] += ~first
    values = (four.float() / inclusion(size).clamp_(min=torch.finfo(torch.float32).tiny)).to(grad.dtype)
    return torch.where(before < 2, values, 0).reshape(grad.shape)


def seen_2_of_4(layer: Layer, now: Clock) -> Callable[[Tensor], Tensor]:
    """What a linear layer's output gradient, (..., out), is seen as: sampled along its rows, four at a time."""

    def seen(grad: Tensor) -> Tensor:
        rows = grad.reshape(-1, grad.shape[-1])
        whole = len(rows) // 4 * 4
        step, draw = layer.memory.get("draws", (-1, 0))
        draw = draw + 1 if step == now.step else 0
        layer.memory["draws"] = (now.step, draw)
        sampled = sample_2_of_4(rows[:whole].t().contiguous(), layer.generator(now.phase, now.step, draw)).t()
        return torch.cat([sampled, rows[whole:]]).reshape(grad.shape)

    return seen
