"""A model before and after its conversion."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from nmbench.kernels.conversion.bypass.by_name import settle
from nmbench.kernels.conversion.layers import SparseLayer
from nmbench.sparsity.attach import is_attached


def checked(model: nn.Module) -> None:
    """Raises ValueError for a model that is compiled, converted already, or still attached to a handle."""
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            which = f"this model is compiled ({name})" if name else "this model is compiled"
            raise ValueError(f"{which}: convert it first, then compile what comes back")
    if any(isinstance(module, SparseLayer) for module in model.modules()):
        raise ValueError("this model is converted already: convert the dense one, or take what convert gave back")
    if is_attached(model):
        raise ValueError("this model is still sparsified: call handle.finalize() first, which bakes the masks in")


def copied(model: nn.Module) -> nn.Module:
    """Raises ValueError where it holds a tensor of a graph, as torch.nn.utils.weight_norm does."""
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(model)
    except RuntimeError as error:
        words = (str(error).strip().splitlines() or ["no message"])[0]
        raise ValueError(f"the model cannot be copied; inplace=True converts it as it is\n{words}") from error


def swap(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """`model`, in place, with each key replaced by its value; the value itself if the model is a key.

    Tied layers and modules that are used twice are replaced wherever they stand. With a layer replaced, no parameter
    asks for a gradient any more: torch.compile would trace a backward pass, which the converted layers do not have.
    """
    if model in replacements:
        return replacements[model].requires_grad_(False)
    exchanged(model, replacements)
    for module in model.modules():
        settle(module)
    return model.requires_grad_(False) if replacements else model


def exchanged(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The same and nothing else: no parameter is changed."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
    return replacements.get(model, model)


def replica(module: nn.Module, replaced: Mapping[nn.Module, nn.Module], *, apart: bool = False) -> nn.Module:
    """`module` with the layers of `replaced` in place, which it calls.

    apart: parameters have memory of their own; else they are shared. Buffers, which a pass may write to, always have.
    """
    made: dict[nn.Module, nn.Module] = {}

    def copied(one: nn.Module) -> nn.Module:
        one = replaced.get(one, one)
        if one not in made:
            other = one.__class__.__new__(one.__class__)
            made[one] = other
            kept = {name: None if child is None else copied(child) for name, child in one._modules.items()}
            parameters = {n: _own(p) if apart else p for n, p in one._parameters.items()}
            buffers = {n: None if b is None else b.clone() for n, b in one._buffers.items()}
            other.__dict__ = {**one.__dict__, "_modules": kept, "_parameters": parameters, "_buffers": buffers}
            other.__dict__.pop("_compiled_call_impl", None)  # it would run `one`
            settle(other)
        return made[one]

    return copied(module)


def _own(parameter: nn.Parameter | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.detach().clone(), requires_grad=False)
