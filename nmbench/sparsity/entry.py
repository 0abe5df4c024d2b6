"""`sparsify`: an N:M pattern on a model while it trains."""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from nmbench.sparsity import methods
from nmbench.sparsity.allocation import Allocation, Patterns, PatternsLike, read
from nmbench.sparsity.attach import detach, is_attached
from nmbench.sparsity.handle import Handle
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.select import LayerInfo, Layers, choose, find_weights, require_numbers


class NothingSparseError(ValueError):
    """No weight of the model takes the pattern."""


def sparsify(
    model: nn.Module,
    pattern: PatternsLike,
    method: str = "sr-ste",
    layers: Layers = None,
    *,
    empty_ok: bool = False,
    steps: int | None = None,
    **hyper: Any,
) -> Handle:
    """Put an N:M pattern on `model`, in place, for training by `method`.

    From then on each forward pass sees masked weights, made anew for it. Outside of forward passes `layer.weight` is
    the dense parameter, as before: read it, change it, group it for an optimizer.

    Args:
        model: an unmodified model, initialised (or with pretrained weights) already.
        pattern: an NMPattern or its text, for instance "2:4" or "1:16@kernel"; or a pattern for each layer: names and
            what those layers keep to, {"*.conv1": "dense", "*": "1:4"}, the first that fits counts; or "erk-1:16",
            where the layers together keep 1 of 16 and small ones more (see nmbench.sparsity.allocation).
        method: "dense", "one-shot", "asp", "ste", "sr-ste", "s-ste" or any other installed in `nmbench.methods`.
        layers: which candidates become sparse. None: every convolution and linear weight. An iterable of module or
            parameter names, `*` allowed; "ffn" for the feed-forward layers of transformers; a callable (module name,
            module) -> bool; or a dict of names and the dimension that the product sums over, for weights of which that
            cannot be seen: {"experts.up_proj": 2}.
        empty_ok: return a handle too if no weight takes the pattern. Without it, only an empty list of `layers` and a
            method that leaves a dense network may end so.
        steps: optimizer steps that one training pass will have. Methods whose settings are shares of training need it.
        hyper: the method's own settings, for instance lambda_w=2e-4 for sr-ste.

    Returns:
        A Handle. `handle.layers` says what became sparse and why the rest did not.

    Raises:
        ValueError: bad pattern, unknown method, setting or layer name; the model is sparse already or lazy; the method
            cannot do the pattern.
        NonFiniteWeightError (a ValueError): a weight is NaN or infinite.
        NothingSparseError (a ValueError): no weight takes the pattern; it says why. After any of these errors the
            model is as it was.
    """
    parsed = read(pattern)
    chosen = methods.load(method)(**hyper)
    if why := refusal(chosen, parsed):
        raise ValueError(why)
    if steps is not None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"sparsify(): steps must be a whole number above 0, not {steps!r}")
        chosen.now.total = steps
    if is_attached(model):
        raise ValueError("this model is sparse already: finalize() its handle before another sparsify()")
    weights = find_weights(model)
    require_numbers(weights)
    if layers is not None and not isinstance(layers, (str, Mapping)) and not callable(layers):
        layers = list(layers)
        empty_ok |= not layers
    _require_patterns(chosen, choose(weights, parsed, layers) if isinstance(parsed, Allocation) else [])
    handle = Handle(model, parsed, chosen, weights, layers)
    undone = [line for line in handle.layers if line.undone]
    if chosen.sparse and not (empty_ok or undone or any(line.sparse for line in handle.layers)):
        detach(model)
        raise NothingSparseError(f"no weight takes {parsed}. {_reasons(handle.layers)}")
    if chosen.sparse and undone:
        warnings.warn(f"sparsify(): {_reasons(undone)}", stacklevel=2)
    return handle


def refusal(method: Method, pattern: Patterns) -> str:
    """Why the method cannot do the pattern, before any model is known; "" where it can."""
    if isinstance(pattern, Allocation):
        own = "" if method.layerwise else "its layers have one pattern, or it finds their patterns itself"
        return own and f"method {method.name!r} cannot do {pattern}: {own}"
    why = method.refuses(pattern) if pattern.n < pattern.m else ""
    return why and f"method {method.name!r} cannot do {pattern}: {why}"


def _require_patterns(method: Method, layers: list[LayerInfo]) -> None:
    """Raises ValueError for a layer whose own pattern the method cannot do."""
    for line in layers:
        if line.pattern is not None and (why := refusal(method, line.pattern)):
            raise ValueError(f"{why} (layer {line.name})")


def _reasons(layers: list[LayerInfo]) -> str:
    reasons: dict[str, list[str]] = {}
    for line in layers:
        reasons.setdefault(line.reason, []).append(line.name)
    texts = [f"{names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}: {why}" for why, names in reasons.items()]
    return "; ".join(texts) or (
        "The model has no parameter of two or more dimensions (FSDP 1 flattens them: use "
        "torch.distributed.fsdp.fully_shard)"
    )
