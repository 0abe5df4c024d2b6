"""Which weights of a model `convert` may try, and why not the others."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from nmbench.kernels.backend import DEPTHWISE, Kind, Refusal
from nmbench.kernels.nmtensor import compress, inferred
from nmbench.kernels.problem import dtype_name
from nmbench.sparsity import NMPattern
from nmbench.sparsity.allocation import Patterns
from nmbench.sparsity.select import Layers, Weight, choose, find_weights

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_FORWARDS = {nn.Linear: ("forward",), nn.Conv2d: ("forward", "_conv_forward")}
#: attributes of a module
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass
class Surveyed:
    """One weight. names, modules: that use it, as `key`. pattern: None if it is not to be tried, for `reason`."""

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    weight: Tensor
    pattern: NMPattern | None = None
    reason: Refusal = field(default_factory=lambda: Refusal(""))
    key: str = "weight"


def survey(model: nn.Module, pattern: Patterns | None, layers: Layers) -> list[Surveyed]:
    """Every weight of a linear, convolution or attention layer, in the model's order, and the quantised layers.

    pattern: what the weights should keep to; None: whatever each keeps to.
    Raises ValueError if a name in `layers` fits nothing.
    """
    weights = find_weights(model)
    lines = {line.name: line for line in choose(weights, pattern or NMPattern(1, 1), layers)}
    names = {id(module): name for name, module in model.named_modules()}
    found = []
    for weight in weights:
        if weight.grouping is None and "tied to" not in weight.reason and not _computed(weight):
            continue  # an embedding, a norm
        modules = tuple(dict.fromkeys(module for module, _ in weight.uses))
        called = tuple(names[id(m)] or type(m).__name__ for m in modules)
        one = Surveyed(called, modules, weight.parameter, key=weight.uses[0][1])
        one.reason = Refusal(_refused(weight) or ("" if lines[weight.name].sparse else lines[weight.name].reason))
        if not one.reason:
            _keep(one, None if pattern is None else lines[weight.name].own(pattern))
        found.append(one)
    for name, module in model.named_modules():
        if _is_quantised(module):
            found.append(Surveyed((name,), (module,), torch.empty(0), reason=Refusal("a quantised layer")))
    return found


def _computed(weight: Weight) -> bool:
    """Is it what a layer's weight is computed from, by torch.nn.utils.parametrize or weight_norm?"""
    return any(isinstance(module, (ParametrizationList, nn.Linear, nn.Conv2d)) for module, _ in weight.uses)


def _is_quantised(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.ao.nn.", "torch.nn.quantized")) and hasattr(module, "weight")


def _keep(one: Surveyed, pattern: NMPattern | None) -> None:
    """Which pattern the weight keeps to, or the reason why none."""
    weight = one.weight.detach()
    if weight.shape[1] == 1:
        one.reason = DEPTHWISE
        return
    if pattern is None:
        one.pattern = inferred(weight)
        if one.pattern is None:
            one.reason = Refusal("violates the pattern: the weight keeps to no N:M", Kind.PATTERN)
        return
    if pattern.n == pattern.m:
        one.reason = Refusal(f"dense by its pattern, {pattern}", Kind.PATTERN)
        return
    try:
        compress(weight, pattern, "violates the pattern")
        one.pattern = pattern
    except ValueError as error:
        one.reason = Refusal(str(error), Kind.PATTERN)


def _refused(weight: Weight) -> str:
    """Why not, from what the weight and its modules are."""
    parameter = weight.parameter
    if weight.grouping is None:
        if not _computed(weight):
            return weight.reason
        others = [type(module).__name__ for module, _ in weight.uses if not isinstance(module, nn.Linear | nn.Conv2d)]
        parametrised = not others or any(isinstance(module, ParametrizationList) for module, _ in weight.uses)
        if parametrised:
            return "its weight is computed from others (a parametrisation)"
        return f"{others[0]} shares its weight"
    for module, key in weight.uses:
        kind = next((cls for cls in _FORWARDS if isinstance(module, cls)), None)
        own = f"its class {type(module).__name__} has a forward of its own"
        if isinstance(module, nn.MultiheadAttention):
            if type(module) is not nn.MultiheadAttention:
                return own
        elif kind is None or key != "weight":
            return f"no sparse kernel for {type(module).__name__}"
        elif any(getattr(type(module), name) is not getattr(kind, name) for name in _FORWARDS[kind]):
            return own
        if why := fixed(module):
            return why
    if type(parameter.data) is not Tensor:
        return f"its weight is a {type(parameter.data).__name__}, not a plain tensor"
    if parameter.layout != torch.strided or parameter.is_quantized:
        return f"its weight is quantised or of layout {parameter.layout}"
    if parameter.dtype not in _DTYPES:
        return f"unsupported dtype {dtype_name(parameter.dtype)}"
    if parameter.device.type == "meta":
        return "its weight is on the meta device"
    return "" if _alike(weight) else "layers of different kinds share its weight"


def has_hooks(module: nn.Module) -> bool:
    """Does a call of it run more than its forward pass?"""
    return any(getattr(module, name) for name in _HOOKS)


def fixed(module: nn.Module) -> str:
    """Why no other may stand in the module's place, or "": its hooks would not be called; attention of a rare kind."""
    if has_hooks(module):
        return "it has hooks, which a replaced layer would lose"
    if not isinstance(module, nn.MultiheadAttention):
        return ""
    if has_hooks(module.out_proj):
        return "its out_proj has hooks, which torch's attention never calls"
    if not module._qkv_same_embed_dim:
        return "its queries, keys and values differ in width"
    return "it adds positions to its keys" if module.bias_k is not None or module.add_zero_attn else ""


def _alike(weight: Weight) -> bool:
    """Can one packed weight serve all modules that use it?"""

    def about(module: nn.Module, key: str) -> object:
        names = ("stride", "padding", "dilation", "groups", "padding_mode")
        kinds = isinstance(module, nn.Linear), isinstance(module, nn.MultiheadAttention)
        return key, kinds, [getattr(module, name, None) for name in names]

    first = about(*weight.uses[0])
    return all(about(module, key) == first for module, key in weight.uses)
