"""What is done to a model on a CPU around the choice of its layers: memory format and BatchNorm, then fusion."""

import torch
from torch import nn

from nmbench.contract.modes import evaluating
from nmbench.kernels.conversion.fold import fold_batch_norms
from nmbench.kernels.conversion.fuse import fuse

_MARK = "_nm_prepared"


def prepare(model: nn.Module) -> int:
    """Channels last throughout, BatchNorm folded into convolutions; in place. How many were folded."""
    model.__dict__[_MARK] = True
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    with evaluating(model):  # as it will run: what a forward pass asks of `training` is traced
        return fold_batch_norms(model)


def is_prepared(model: nn.Module) -> bool:
    """Has `prepare` been here?"""
    return _MARK in model.__dict__


def finish(model: nn.Module, folded: int, reordered: int = 0) -> str:
    """Fuse what follows its layers, in place; what was done, in words, or ""."""
    with evaluating(model):
        fused = fuse(model)
    counts = {"BatchNorms folded": folded, "dense weights reordered": reordered}
    counts |= {"ReLUs fused": fused.relus, "additions fused": fused.additions}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
