"""The projections of torch.nn.MultiheadAttention among the layers of a model, as attention.py makes them."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from nmbench.kernels.backend import Refusal
from nmbench.kernels.conversion.bypass.attention import PROJECTIONS, LayeredAttention, form, layers, taken
from nmbench.kernels.conversion.survey import Surveyed, fixed
from nmbench.kernels.conversion.watch import Arguments, Call, Seen, Watched

_bind = inspect.signature(nn.MultiheadAttention.forward).bind


class Attentions(dict[nn.MultiheadAttention, dict[str, nn.Linear]]):
    """Attention -> projection -> dense layer."""

    def replacing(self, swaps: Mapping[nn.Module, nn.Module]) -> dict[nn.Module, nn.Module]:
        """`swaps`, and what stands in place of each attention of which one of the layers is among them."""
        found = dict(swaps)
        for attention, parts in self.items():
            inner: dict[str, nn.Module] = {**parts, "out_proj": attention.out_proj}
            if any(layer in swaps for layer in inner.values()):
                found[attention] = LayeredAttention(attention, {k: swaps.get(one, one) for k, one in inner.items()})
        return found


def _plain(model: nn.Module) -> dict[str, nn.MultiheadAttention]:
    """By name, by each of its names, those that can be replaced."""
    found = model.named_modules(remove_duplicate=False)
    return {name: m for name, m in found if type(m) is nn.MultiheadAttention and not fixed(m)}


def _within(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def seen_inside(model: nn.Module, seen: Watched) -> Attentions:
    """`seen.layers` gets what the projections would have been called with."""
    calls: dict[nn.MultiheadAttention, list[tuple[Arguments, int]]] = {}
    asked: dict[int, set[str]] = defaultdict(set)  # attention with one weight has one set of projections
    for attention in dict.fromkeys(_plain(model).values()):
        whole = seen.wholes.get(id(attention))
        examples = [(whole.examples[about], count) for about, count in whole.calls.items()] if whole else []
        inputs = [_inputs(arguments) for arguments, _ in examples]
        if examples and not any(x.is_nested for given in inputs for x in given.values()):
            calls[attention] = examples
            asked[id(attention.in_proj_weight)].update(name for given in inputs for name in taken(*given.values()))
    attentions = Attentions()
    for attention, examples in calls.items():
        attentions[attention] = layers(attention, form(asked[id(attention.in_proj_weight)]))
        projections = [(layer, PROJECTIONS[name][0]) for name, layer in attentions[attention].items()]
        for layer, which in [*projections, (attention.out_proj, "q")]:
            counted = seen.layers[id(layer)] = Seen()
            for arguments, count in examples:
                x = _inputs(arguments)[which]
                call = Call.of(x, layer.weight.dtype, arguments.autocast)
                counted.calls[replace(call, shape=(*x.shape[:-1], layer.in_features))] += count
    return attentions


def _inputs(call: Arguments) -> dict[str, Tensor]:
    given = _bind(None, *call.args, **call.kwargs).arguments
    return {"q": given["query"], "k": given["key"], "v": given["value"]}


def named_inside(model: nn.Module, names: Iterable[str]) -> tuple[Attentions, dict[str, nn.Linear]]:
    """Also: name -> projection, of those that serve the `names` (names of other modules do not count)."""
    names = set(names)
    plain = _plain(model)
    wanted: dict[nn.MultiheadAttention, set[str]] = defaultdict(set)  # one with two names is stored under one of them
    for name, attention in plain.items():
        wanted[attention].update(part for part in (*PROJECTIONS, "out_proj") if _within(name, part) in names)
    attentions = Attentions({one: layers(one, form(parts)) for one, parts in wanted.items() if parts})
    projections = {
        _within(name, part): layer
        for name, attention in plain.items()
        for part, layer in attentions.get(attention, {}).items()
    }
    return attentions, projections


def unfold(surveyed: list[Surveyed], attentions: Attentions, model: nn.Module) -> list[Surveyed]:
    """In place of a weight of attention, an entry for each of its projections; a reason where there are none."""
    names = {id(module): name for name, module in model.named_modules()}
    made = []
    for weight in surveyed:
        first = weight.modules[0]
        if weight.pattern is None or not isinstance(first, nn.MultiheadAttention):
            made.append(weight)
        elif any(module not in attentions for module in weight.modules):
            reason = Refusal("not called on the example inputs, or with nested tensors")
            made.append(replace(weight, pattern=None, reason=reason))
        else:
            asked = {part for module in weight.modules for part in attentions[module]}  # type: ignore[index]
            for part in form(asked):
                modules = tuple(attentions[m][part] for m in weight.modules)  # type: ignore[index]
                own = tuple(_within(names[id(m)], part) for m in weight.modules)
                made.append(Surveyed(own, modules, modules[0].weight, weight.pattern))
    return made
