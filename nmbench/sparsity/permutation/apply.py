"""`permute`: find an order for each coupling set of channels, apply it, and make sure that the function is the same."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nmbench._util.errors import first_line
from nmbench.sparsity.allocation import Patterns, PatternsLike, read
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.permutation.graph import Seen, walk
from nmbench.sparsity.permutation.layers import is_layer
from nmbench.sparsity.permutation.precision import doubles
from nmbench.sparsity.permutation.search import find, kept
from nmbench.sparsity.permutation.spaces import Couplings, Space, Touch
from nmbench.sparsity.products import ordinary_forward
from nmbench.sparsity.select import LayerInfo, Layers, choose, default_candidates, find_weights

#: of the largest output; half precision differs by more
_TOLERANCE = 1e-5
_TOLERANCE_OF_HALF = 2e-2
#: larger differences are none of rounding
_ROUNDING = 1e-2
#: by the id of a sparse weight: its name and pattern
Wanted = Mapping[int, tuple[str, NMPattern]]
_INSIDE = "what it reads is made inside of the module that it belongs to"


@dataclass(frozen=True)
class PermutationReport:
    """What became of the input channels of each sparse layer.

    Attributes:
        permuted: name -> share of sum |w| that the pattern keeps, before and after.
        left: name -> why the order of its input channels stays.
        difference: largest change of the model's output, as a share of its largest number.
    """

    permuted: dict[str, tuple[float, float]]
    left: dict[str, str]
    difference: float

    def __str__(self) -> str:
        """A line for each layer."""
        lines = [
            f"{name}  keeps {after:.4f} of |w| instead of {before:.4f}"
            for name, (before, after) in self.permuted.items()
        ]
        return "\n".join(lines + [f"{name}  left: {why}" for name, why in self.left.items()])


def permute(
    model: nn.Module, pattern: PatternsLike, example_inputs: Sequence[Any] | Tensor, layers: Layers = None
) -> PermutationReport:
    """Reorder the channels of `model`, in place, so that `pattern` keeps more of |w|; its outputs stay what they are.

    Channels that a residual connection, a normalisation or a grouped convolution couples move together. Where the
    graph does not say what becomes of the channels, they stay, and the report says why. Do it before the mask is made:
    before `sparsify` for "one-shot", between the passes of "asp"; the state of an optimizer is not reordered. Channels
    that layers of several patterns read are ordered for that of most weights.

    Args:
        model: trained; traced by torch.fx, or its parts where it cannot be traced as a whole.
        pattern: as `sparsify` takes it, along the input channels.
        example_inputs: a tensor or positional inputs of one forward pass.
        layers: the weights that will be sparse, as `sparsify` takes them. None: all but those of the last linear layer.

    Raises:
        ValueError: a bad pattern, one on the kernel axis, a layer that is not there, or inputs that do not fit.
    """
    parsed = read(pattern)
    lines = choose(find_weights(model), parsed, default_candidates(model) if layers is None else layers)
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    with ordinary_forward(model):
        return permute_model(model, parsed, lines, lambda: _output(model, inputs))


def _output(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """Raises ValueError for inputs that do not fit."""
    try:
        return model(*inputs)
    except Exception as error:
        raise ValueError(f"the model does not take the example inputs ({first_line(error)})") from error


def permute_model(
    model: nn.Module, pattern: Patterns, lines: Iterable[LayerInfo], output: Callable[[], Any]
) -> PermutationReport:
    """`permute` for the sparse ones of `lines`; `output` runs the model, in evaluation mode and without gradients."""
    homes = {weight.name: weight.parameter for weight in find_weights(model)}
    wanted = {id(homes[i.name]): (i.name, i.own(pattern)) for i in lines if i.sparse and i.name in homes}
    if any(own.axis != "input" for _, own in wanted.values()) or getattr(pattern, "axis", "input") != "input":
        raise ValueError(f"{pattern}: channels are permuted for patterns along the input only")
    seen, before = _run(model, output)
    couplings, walked = Couplings(), list[str]()
    walk(model, seen, couplings, walked.append)
    _guard(model, couplings, walked)
    shares = {name: _share(couplings, id_, own) for id_, (name, own) in wanted.items()}
    for space in couplings.spaces():
        _order(space, couplings, wanted)
    moved = [touch for touch in couplings.touches if any(p.space.root.order is not None for p in touch.channels.parts)]
    for touch in moved:
        touch.apply()
    difference = _difference(before, output())
    undone = ""
    if _tolerance(before) < difference < _ROUNDING:  # many layers, or a recurrent one, add up what was rounded
        difference = min(difference, _in_double(model, output, moved))
    if difference > _tolerance(before):
        undone = f"the model's output would change by {difference:.2g} of its largest number"
        _undo(moved)
    return _report(model, couplings, wanted, shares, difference if not undone else 0.0, undone)


def _run(model: nn.Module, output: Callable[[], Any]) -> tuple[dict[str, Seen], Any]:
    """How each module was called first, and what the model gave."""
    seen: dict[str, Seen] = {}
    handles = []

    def hook(name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            if name not in seen and (call := Seen.called(module, args, kwargs)) is not None:
                seen[name] = call

        return before

    for name, module in model.named_modules():
        if any(True for _ in module.children()):
            handles.append(module.register_forward_pre_hook(hook(name), with_kwargs=True))
    try:
        return seen, output()
    finally:
        for handle in handles:
            handle.remove()


def _guard(model: nn.Module, couplings: Couplings, walked: list[str]) -> None:
    """Channels of tensors that are also used outside of what was walked through stay."""
    inside = {id(m) for name in walked for m in model.get_submodule(name).modules()}
    outside = {
        id(tensor)
        for module in model.modules()
        if id(module) not in inside
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    }
    for touch in couplings.touches:
        if id(touch.tensor) in outside:
            touch.channels.fix("its weight is used outside of the graph too")


def _scores(space: Space, readers: Iterable[Touch], m: int) -> dict[int, Tensor]:
    """Block -> |w| of the weights that read the channels, one below the other."""
    blocks = space.blocks
    found: dict[int, list[Tensor]] = defaultdict(list)
    for touch in readers:
        for block, score in touch.scores(space, m):
            pieces = score.chunk(blocks // touch.groups, dim=1) if block >= 0 else score.chunk(blocks, dim=1)
            first = block * (blocks // touch.groups) if block >= 0 else 0
            for i, piece in enumerate(pieces):
                found[first + i].append(piece)
    return {block: torch.cat(pieces) for block, pieces in found.items()}


def _order(space: Space, couplings: Couplings, wanted: Wanted) -> None:
    """Find the order of the channels of `space`, if it may change and somebody gains."""
    readers: dict[NMPattern, list[Touch]] = defaultdict(list)
    for touch in couplings.touches:
        if touch.read and id(touch.tensor) in wanted and any(p.space.root is space for p in touch.channels.parts):
            readers[wanted[id(touch.tensor)][1]].append(touch)
    if space.fixed or not readers:
        return
    width = space.size // space.blocks
    pattern = max(readers, key=lambda own: sum(touch.tensor.numel() for touch in readers[own]))
    scores = _scores(space, readers[pattern], pattern.m)
    order = torch.arange(space.size)
    for block, score in scores.items():
        found = find(score, pattern).cpu()
        order[block * width : (block + 1) * width] = found + block * width
    if scores and not torch.equal(order, torch.arange(space.size)):
        space.order = order


def _in_double(model: nn.Module, output: Callable[[], Any], moved: list[Touch]) -> float:
    """The difference in double precision, where rounding plays no part; infinite where the model cannot run so."""
    dtypes = {tensor.dtype for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()}
    if dtypes != {torch.float32}:
        return math.inf

    def cast(module: nn.Module, args: Any, kwargs: Any) -> Any:
        doubled = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in args]
        return tuple(doubled), kwargs

    hook = model.register_forward_pre_hook(cast, with_kwargs=True)
    model.double()
    try:
        with doubles():
            after = output()
        _undo(moved)
        try:
            with doubles():
                return _difference(output(), after)
        finally:
            _undo(moved)  # the other way round
    except Exception:  # whatever a stranger's forward does to doubles
        return math.inf
    finally:
        hook.remove()
        model.float()


def _undo(moved: list[Touch]) -> None:
    spaces = {id(p.space.root): p.space.root for touch in moved for p in touch.channels.parts}
    for space in spaces.values():
        if space.order is not None:
            space.order = space.order.argsort()
    for touch in moved:
        touch.apply()


def _share(couplings: Couplings, tensor: int, pattern: NMPattern) -> float:
    """Of sum |w| that the pattern keeps of a weight, as it is now."""
    for touch in couplings.touches:
        if id(touch.tensor) == tensor and touch.read:
            size = touch.tensor.detach().abs().float().movedim(touch.dim, -1).flatten(0, -2)
            return kept(size, pattern) / max(1e-30, float(size.sum()))
    return 0.0


def _difference(before: Any, after: Any) -> float:
    pairs = zip(tree_leaves(before), tree_leaves(after), strict=True)
    worst = 0.0
    for a, b in pairs:
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            worst = max(worst, float((a - b).abs().max()) / max(1e-30, float(a.abs().max())))
    return worst


def _tolerance(output: Any) -> float:
    halves = (torch.float16, torch.bfloat16)
    half = any(isinstance(leaf, Tensor) and leaf.dtype in halves for leaf in tree_leaves(output))
    return _TOLERANCE_OF_HALF if half else _TOLERANCE


def _in_a_layer(model: nn.Module, name: str) -> bool:
    """Does the weight belong to a part of a layer that the graph does not look into, as attention's projection?"""
    path = name.split(".")[:-1]
    return any(is_layer(model.get_submodule(".".join(path[:depth]))) for depth in range(1, len(path)))


def _report(
    model: nn.Module,
    couplings: Couplings,
    wanted: Wanted,
    shares: dict[str, float],
    difference: float,
    undone: str,
) -> PermutationReport:
    permuted: dict[str, tuple[float, float]] = {}
    left: dict[str, str] = {}
    reads = {id(touch.tensor): touch for touch in couplings.touches if touch.read}
    for tensor, (name, pattern) in wanted.items():
        touch = reads.get(tensor)
        roots = [part.space.root for part in touch.channels.parts] if touch else []
        if touch is None:
            left[name] = _INSIDE if _in_a_layer(model, name) else "torch.fx cannot trace what it is part of"
        elif undone:
            left[name] = undone
        elif any(root.order is not None for root in roots):
            permuted[name] = shares[name], _share(couplings, tensor, pattern)
        else:
            left[name] = next((r.fixed for r in roots if r.fixed), "no order was found that keeps more")
    return PermutationReport(permuted, left, difference)
