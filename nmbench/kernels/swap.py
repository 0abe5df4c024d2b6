"""Layers of a model replaced by others.

swap    everywhere a layer is found, tied layers and modules that are used twice included
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

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
        _leave_fused_path(module)
    return model.requires_grad_(False) if replacements else model


def _leave_fused_path(module: nn.Module) -> None:
    """torch's fused encoder reads weights by name, dense; an encoder layer with a replaced one must call it instead."""
    from nmbench.kernels.layers import SparseLayer

    holds = any(isinstance(inner, SparseLayer) for inner in module.modules())
    if isinstance(module, nn.TransformerEncoderLayer) and holds:
        module.activation_relu_or_gelu = 0  # which is how torch itself marks a layer that the fused path cannot take
    if isinstance(module, nn.TransformerEncoder) and holds:
        module.use_nested_tensor = False
