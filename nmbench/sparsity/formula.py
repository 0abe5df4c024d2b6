"""The masked weight in plain torch operations, for whatever compiled passes cannot read or would hide.

x + (E x - x) is E x exactly, with the gradient of x.
"""

from typing import Any

import torch
from torch import Tensor

from nmbench.sparsity.fast import compiled as _graphs
from nmbench.sparsity.mask import Grouping, mask_of, torch_mask
from nmbench.sparsity.memory import local_part, with_part
from nmbench.sparsity.pattern import NMPattern


def in_graph(weight: Tensor, held: Tensor | None, pattern: NMPattern, grouping: Grouping) -> Tensor:
    """For torch.compile: an operator on a GPU, else plain torch operations. held: the mask, if it stays."""
    if held is None and _graphs.takes(weight):
        on_kernel = pattern.axis == "kernel"
        made: Tensor = _graphs.masked_weight(weight, pattern.n, pattern.m, on_kernel, grouping.dim, grouping.groups)
        return made
    kept = torch_mask(weight, pattern, grouping) if held is None else held
    return weight + (torch.where(kept, weight, 0.0) - weight).detach()


def in_trace(weight: Tensor, held: Tensor | None, pattern: NMPattern, grouping: Grouping) -> Tensor:
    """The mask of now enters the trace as a constant: its making would be exported, with sizes that are traced."""
    state = torch._C._get_tracing_state()
    set_state: Any = torch._C._set_tracing_state  # type: ignore[attr-defined]
    set_state(None)
    try:
        pruned = ~(mask_of(weight, pattern, grouping) if held is None else held)
    finally:
        set_state(state)
    return weight.masked_fill(pruned, 0.0)


def straight_through(weight: Tensor, held: Tensor | None, pattern: NMPattern, grouping: Grouping) -> Tensor:
    """E * W of this rank's part, sharded as `weight` is. Raises ValueError where shards cut groups.

    A held mask of other rows (this rank's, while FSDP gathered all) is not needed: pruned weights are zero by then.
    """
    part = local_part(weight, grouping, pattern)
    if held is not None and held.shape != part.shape:
        return weight
    kept = mask_of(part, pattern, grouping) if held is None else held
    masked = torch.where(kept, part, part.new_zeros(()))
    return weight + (with_part(weight, masked) - weight).detach()
