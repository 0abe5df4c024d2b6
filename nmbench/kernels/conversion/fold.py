"""BatchNorm folded into the convolution before it, for inference: one pass over memory less, and no pattern changed.

A convolution's outputs are scaled one by one, so that zeros stay where they are.
"""

import torch
from torch import nn

from nmbench.kernels.conversion.survey import has_hooks
from nmbench.kernels.conversion.tracing import called_once, graphs, only_user, places


def fold_batch_norms(model: nn.Module) -> int:
    """Fold them, in place: `nn.Identity` stands where they stood. How many. The model is for evaluation from then on.

    Left alone: what torch.fx cannot follow, a convolution that is used twice, shares its weight or has hooks.
    """
    count = 0
    owners = places(model)
    held = _holders(model)
    for _, unit, graph in graphs(model):
        once = called_once(graph)
        for node, name in once.items():
            follower = only_user(node)
            if follower is None or follower not in once:
                continue
            conv, norm = unit.get_submodule(name), unit.get_submodule(once[follower])
            if _folds(conv, norm) and owners[conv] == owners[norm] == 1 and held[id(conv.weight)] == 1:
                _fold(conv, norm)  # type: ignore[arg-type]
                parent, _, leaf = once[follower].rpartition(".")
                unit.get_submodule(parent)._modules[leaf] = nn.Identity()
                count += 1
    return count


def _holders(model: nn.Module) -> dict[int, int]:
    """Id of a parameter -> how many modules hold it."""
    found: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            found[id(parameter)] = found.get(id(parameter), 0) + 1
    return found


def _folds(conv: nn.Module, norm: nn.Module) -> bool:
    plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None
    return plain and type(conv.weight) is nn.Parameter and not has_hooks(conv) and not has_hooks(norm)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta; in float64, then in the convolution's dtype."""
    with torch.inference_mode(False), torch.no_grad():
        mean, variance = (one.double() for one in (norm.running_mean, norm.running_var) if one is not None)
        scale = (variance + norm.eps).rsqrt() * (1.0 if norm.weight is None else norm.weight.double())
        bias = -mean if conv.bias is None else conv.bias.double() - mean
        bias = bias * scale + (0.0 if norm.bias is None else norm.bias.double())
        conv.weight.data.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
