"""Modules that call their layers only since these run sparse, held whole against what they did before.

torch's encoders and attention and fairseq's attention have a fused way past their layers. Sparse layers that each beat
their dense twins need not beat that: so such a module is compared and timed as one, on what it was called with.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nmbench._util.errors import first_line
from nmbench.kernels import timing
from nmbench.kernels.conversion.bypass.by_name import bypassing
from nmbench.kernels.conversion.choose import Trial
from nmbench.kernels.conversion.swap import replica
from nmbench.kernels.conversion.watch import Arguments, Form, Whole

#: a unit with sparse layers must take at most this part of its time without
_NOT_SLOWER = 1.0
_MOST_FORMS = 4
#: |difference| / |result| by the itemsize of the result: roundings add up over the layers of a unit
_AGREE = {2: 3e-2, 4: 1e-3, 8: 1e-6}


def units(model: nn.Module, wholes: Mapping[int, Whole]) -> Iterator[tuple[str, nn.Module, Whole]]:
    """(name, module, calls): the outermost modules that go past their layers now, of those that were called."""
    inside: set[int] = set()
    past = {id(module) for module in bypassing(model)}
    for name, module in model.named_modules():
        whole = wholes.get(id(module))
        if id(module) in inside or id(module) not in past or whole is None or not whole.calls:
            continue
        if isinstance(module, nn.TransformerEncoder) and not _padded(module, whole):
            continue  # its layers are units, one by one
        inside.update(map(id, module.modules()))
        yield name or type(module).__name__, module, whole


def _padded(module: nn.TransformerEncoder, whole: Whole) -> bool:
    """Would it drop the padding before its first layer? It is a matter of all its layers then."""
    bind = inspect.signature(type(module).forward).bind
    given = (whole.examples[form] for form in whole.calls)
    calls = (bind(module, *one.args, **one.kwargs) for one in given)
    return any(call.arguments.get("src_key_padding_mask") is not None for call in calls)


def judge(unit: nn.Module, replaced: Mapping[nn.Module, nn.Module], whole: Whole, trial: Trial) -> str:
    """ "" if `unit` with sparse layers gives what it gave and is not slower; else why it is to stay as it was."""
    calls = whole.calls.most_common(_MOST_FORMS)
    with torch.inference_mode(False), torch.no_grad():
        try:
            dense, sparse = replica(unit, {}).eval(), replica(unit, replaced).eval()
            for form, _ in calls:
                if wrong := _differs(dense, sparse, whole.examples[form]):
                    return wrong
            ratio = _timed(unit, replaced, calls, whole, trial)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return "there was not enough memory to compare it as a whole"
        except Exception as error:  # whatever it is, the unit worked before
            return f"could not be run by itself with sparse layers: {first_line(error)}"
    return "" if ratio <= _NOT_SLOWER else f"slower as a whole: {ratio:.2f} of the time that it takes now"


def _differs(unit: nn.Module, sparse: nn.Module, arguments: Arguments) -> str:
    """Do the results agree, as far as roundings let them?"""
    before, after = (_tensors(arguments.own().give(one)) for one in (unit, sparse))
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"gives {tuple(b.shape)} {b.dtype} where it gave {tuple(a.shape)} {a.dtype}"
        if a.dtype.is_floating_point:
            if not a.isfinite().any() and a.numel():
                return "could not be compared: its result is not finite"
            right = a.double().nan_to_num()
            off = float((b.double().nan_to_num() - right).norm() / right.norm().clamp_min(1e-30))
            if not off <= _AGREE.get(a.dtype.itemsize, 0.0) or not torch.equal(a.isnan(), b.isnan()):
                return f"its result differs where it calls its layers: by {off:.2g} of it"
    return ""


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def _timed(
    unit: nn.Module,
    replaced: Mapping[nn.Module, nn.Module],
    calls: list[tuple[Form, int]],
    whole: Whole,
    trial: Trial,
) -> float:
    """Its time in one pass of the model with sparse layers, over that without."""
    ways: dict[str, Mapping[nn.Module, nn.Module]] = {"dense": {}, "sparse": replaced}
    times = dict.fromkeys(ways, 0.0)
    for form, count in calls:
        given = whole.examples[form].own()  # units of one class share them
        device = next((leaf.device for leaf in _tensors((given.args, given.kwargs))), torch.device("cpu"))
        closures = {}
        for name, layers in ways.items():
            size = sum(tensor.nbytes for tensor in (*unit.parameters(), *unit.buffers()))
            apart = timing.copies(size, device) > 1  # a single one has nothing to be apart from
            many = timing.rotated(functools.partial(replica, unit, layers, apart=apart), size, device)
            closures[name] = [functools.partial(given.give, one.eval()) for one in many]
        for name, us in trial.times(closures, device).items():
            times[name] += us * count
    return times["sparse"] / times["dense"]
