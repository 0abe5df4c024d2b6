"""Layers of a model replaced by others.

swap    everywhere a layer is found, tied layers and modules that are used twice included
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from nmbench.kernels.convert.bypass.by_name import settle

__all__ = ["swap"]


def swap(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """`model`, in place, with each key replaced by its value; the value itself if the model is a key.

    With a layer replaced, no parameter asks for a gradient any more: torch.compile would trace a backward pass, which
    the converted layers do not have.
    """
    if model in replacements:
        return replacements[model].requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
    for module in model.modules():
        settle(module)
    return model.requires_grad_(False) if replacements else model
