"""What `finalize` leaves: the weight that a method's forward pass computed with, as a plain parameter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from nmbench.sparsity.audits import groups_over
from nmbench.sparsity.kept_mask import DENSE, STAYS
from nmbench.sparsity.mask import torch_mask
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.weight import SparseWeight


@torch.no_grad()
def settle(weights: Sequence[SparseWeight], name: str) -> None:
    """Bake each weight as the forward pass in evaluation sees it.

    name: of the method, for the warning where it has not arrived at the pattern; the N largest are then kept.
    """
    unfinished = []
    for weight in weights:
        if weight.rule not in STAYS:
            weight.update()
        if weight.rule != DENSE and weight.own_forward:
            weight.values.copy_(_evaluated(weight))
        if weight.rule == DENSE or not weight.own_forward:
            weight.bake()
        if weight.method is None and weight.maker is None:
            continue
        if weight.pattern.m != weight.asked.m or groups_over(weight.values, weight.pattern, weight.grouping)[1]:
            unfinished.append(weight)
    for weight in unfinished:
        pattern = weight.pattern if weight.pattern.m == weight.asked.m else weight.asked
        values = weight.values
        values.masked_fill_(~torch_mask(values, pattern, weight.grouping), 0.0)
        weight.pattern = pattern
    if unfinished:
        warnings.warn(
            f"finalize(): training ended before {name} had arrived at the pattern in {len(unfinished)} layer(s), "
            f"{unfinished[0].name} first: the largest of each group were kept",
            stacklevel=3,
        )


def _evaluated(weight: SparseWeight) -> Tensor:
    module, training = weight.module, weight.module.training
    assert weight.method is not None
    module.training = False
    try:
        return weight.method.forward(weight, weight.values).detach().clone()
    finally:
        module.training = training


def warn_of_no_step(method: Method) -> None:
    """Weights were trained, and the method was never told."""
    warnings.warn(
        f"finalize(): weights were trained and no step was counted, so {method.name} took no part in it: "
        "bind() the optimizer whose step() is called, or call before_step() and step()",
        stacklevel=3,
    )


def warn_of_dense_end(method: Method, phase: int, steps: int) -> None:
    """The pattern comes only now, after the last update."""
    warnings.warn(
        f"finalize(): training was dense so far and nothing is trained after pruning: {method.name} has "
        f"{method.phases} training pass(es), and this is number {phase + 1}, after "
        f"{steps} steps; start_phase() begins the next",
        stacklevel=3,
    )
