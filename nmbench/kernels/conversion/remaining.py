"""What becomes of the layers that stay dense in a converted model on a CPU: those that gain by it are reordered."""

import functools
from collections.abc import Collection

import torch
from torch import Tensor, nn

from nmbench.kernels import timing
from nmbench.kernels.conversion.choose import Trial
from nmbench.kernels.conversion.reordered import problem_of, reordered, takes
from nmbench.kernels.conversion.survey import has_hooks
from nmbench.kernels.conversion.swap import replica
from nmbench.kernels.conversion.watch import Call, Seen, Watched

#: of its dense time that a reordered convolution may take by itself: it does what follows it, a pass over its result
_AS_FAST = 1.05


def candidates(model: nn.Module) -> list[nn.Module]:
    """The layers that have to be watched for it."""
    return [module for module in model.modules() if takes(module)]


def remaining(
    model: nn.Module, replaced: Collection[nn.Module], seen: Watched, trial: Trial
) -> dict[nn.Module, nn.Module]:
    """Dense layer -> what stands in its place. replaced: those that run sparse. Equal layers are timed once."""
    found: dict[nn.Module, nn.Module] = {}
    known: dict[object, bool] = {}
    for module in candidates(model):
        about = seen.layers.get(id(module))
        call = _most(module, about) if about is not None and module not in replaced else None
        if call is None:
            continue
        key = problem_of(module, call.shape), module.bias is None, call.channels_last
        if key not in known:
            known[key] = not trial.over and _gains(module, call, trial)
        if known[key]:
            found[module] = reordered(module)
    return found


def _most(module: nn.Module, seen: Seen) -> Call | None:
    """The call that comes most often, of a layer that only calls use."""
    if not seen.calls or seen.by_name or has_hooks(module):
        return None
    call = seen.calls.most_common(1)[0][0]
    plain = call.dtype == module.weight.dtype and not call.autocast and torch.Size(call.shape).numel() > 0
    return call if plain and len(call.shape) >= (4 if isinstance(module, nn.Conv2d) else 2) else None


def _gains(module: nn.Module, call: Call, trial: Trial) -> bool:
    """Is it no slower reordered, with weights as far away as in the model?"""
    weight = module.weight
    assert isinstance(weight, Tensor)
    x = torch.randn(call.shape, generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    x = x.contiguous(memory_format=torch.channels_last) if call.channels_last else x
    many = timing.rotated(lambda: replica(module, {}, apart=True), x.nbytes + weight.nbytes, x.device, held=trial.held)
    with torch.no_grad():
        closures = {
            "dense": [functools.partial(one, x.clone()) for one in many],
            "reordered": [functools.partial(reordered(one.requires_grad_(False)), x.clone()) for one in many],
        }
        times = trial.times(closures, x.device)
    return times["reordered"] <= times["dense"] * (_AS_FAST if isinstance(module, nn.Conv2d) else 1.0)
