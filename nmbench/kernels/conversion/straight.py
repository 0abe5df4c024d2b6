"""Layers that are linear ones under another name."""

from torch import nn

from nmbench.kernels.conversion.survey import has_hooks
from nmbench.sparsity.select import is_conv1d


def straightened(model: nn.Module) -> nn.Module:
    """`model`, in place, with a linear layer for each `Conv1D` of transformers; itself one if it is a `Conv1D`.

    Those with hooks stay, which a replaced layer would lose, and so do those whose weight another layer uses too.
    """
    users: dict[int, set[nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            users.setdefault(id(parameter), set()).add(module)
    made = {
        module: _linear(module)
        for module in model.modules()
        if is_conv1d(module) and not has_hooks(module) and len(users[id(module.weight)]) == 1
    }
    for parent in list(model.modules()):
        parent._modules.update({name: made[child] for name, child in parent._modules.items() if child in made})
    return made.get(model, model)


def _linear(module: nn.Module) -> nn.Module:
    weight, bias = module._parameters["weight"], module._parameters["bias"]
    assert weight is not None
    inputs, outputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().t().contiguous(), weight.requires_grad)
    linear.register_parameter("bias", bias)
    return linear.train(module.training)
