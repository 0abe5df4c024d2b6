"""Layers that are linear ones under another name."""

from collections.abc import Mapping

from torch import nn

from nmbench.kernels.conversion.survey import has_hooks
from nmbench.sparsity.select import is_conv1d


def linear_twins(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """A linear layer for each `Conv1D` of transformers in the model, which stays as it is: {Conv1D: Linear}.

    Left out are those that a replaced layer would lose something of: with hooks, a forward pass or a kind of weight of
    their own, or with a weight that another layer uses too.
    """
    users: dict[int, set[nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            users.setdefault(id(parameter), set()).add(module)
    return {module: _linear(module) for module in model.modules() if is_conv1d(module) and _is_plain(module, users)}


def _is_plain(module: nn.Module, users: Mapping[int, set[nn.Module]]) -> bool:
    weight = module._parameters.get("weight")
    own = "forward" in vars(module) or has_hooks(module)
    return weight is not None and not own and len(users[id(weight)]) == 1


def _linear(module: nn.Module) -> nn.Module:
    weight, bias = module._parameters["weight"], module._parameters["bias"]
    assert weight is not None  # `_is_plain` asked
    inputs, outputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().t().contiguous(), weight.requires_grad)
    linear.register_parameter("bias", bias)
    return linear.train(module.training)
