"""Which weights of a model an N:M pattern can apply to, which of them are chosen, and why the others stay dense."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from nmbench.sparsity.allocation import Patterns
from nmbench.sparsity.assign import FFN, NO_FFN, assigned, hits, module_name, named, near
from nmbench.sparsity.feed_forward import feed_forward
from nmbench.sparsity.mask import Grouping
from nmbench.sparsity.memory import numberless, opaque
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.products import undone_by_its_forward
from nmbench.sparsity.tiling import SharedColumns

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
UNDONE = "its own forward changes the weight, so that it multiplies dense"
#: what torch.nn.utils.prune, spectral_norm and weight_norm keep a layer's weight as: zeros of it stay zeros
_KEYS = ("weight", "weight_orig", "weight_v")

Layers = Mapping[str, int] | Iterable[str] | Callable[[str, nn.Module], bool] | None


@dataclass(frozen=True)
class LayerInfo:
    """One candidate weight: parameter name, shape, "sparse" or "dense", and the reason if dense.

    undone: it was chosen, but its layer multiplies with a dense weight that it computes from this one.
    pattern: its own, where that is not the run's. outputs: how it is grouped along the outputs, where the pattern is to
        be kept there too (transposable masks). shared: the tiles whose rows share columns (V:N:M).
    """

    name: str
    shape: tuple[int, ...]
    role: str
    reason: str = ""
    grouping: Grouping = field(default_factory=Grouping)
    undone: bool = False
    pattern: NMPattern | None = None
    outputs: Grouping | None = None
    shared: SharedColumns | None = None

    @property
    def sparse(self) -> bool:
        """Is an N:M pattern kept on this weight?"""
        return self.role == "sparse"

    def own(self, run: Patterns) -> NMPattern:
        """The pattern of this weight in a run of `run`. Raises ValueError where the line has none, as dense ones do."""
        if self.pattern is None and not isinstance(run, NMPattern):
            raise ValueError(f"{self.name} has no pattern of its own in {run}: take the layers of the handle")
        return self.pattern or run  # type: ignore[return-value]


@dataclass
class Weight:
    """A parameter with two or more dimensions and every (module, key) that uses it; `grouping` None: no candidate.

    feed_forward: is it of a feed-forward layer of a transformer?
    """

    name: str
    parameter: nn.Parameter
    grouping: Grouping | None
    reason: str = ""
    uses: list[tuple[nn.Module, str]] = field(default_factory=list)
    feed_forward: bool = False

    def width(self, pattern: NMPattern) -> int:
        """Of the dimension that groups run along."""
        return (self.grouping or Grouping()).logical(self.parameter.shape, pattern.axis)[1]


def _grouping(module: nn.Module, key: str) -> tuple[Grouping | None, str]:
    if isinstance(module, nn.MultiheadAttention):
        if key in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            return Grouping(), ""
    elif key in _KEYS:
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            return Grouping(), ""
        if isinstance(module, _TRANSPOSED):
            return Grouping(dim=0, groups=module.groups), ""
        if isinstance(module, _EMBEDDINGS):
            return None, "an embedding"
        if is_conv1d(module):
            return Grouping(dim=0), ""
    if isinstance(module, ParametrizationList):
        return None, f"a parametrization computes the weight from it ({type(module[0]).__name__})"
    return None, f"not a convolution or linear weight ({type(module).__name__})"


def is_conv1d(module: nn.Module) -> bool:
    """Is it transformers' `Conv1D`, the linear layer of GPT-2, whose weight lies as (in, out)?"""
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")


def find_weights(model: nn.Module) -> list[Weight]:
    """Every parameter of two or more dimensions in the model's order, tied ones once.

    Raises ValueError if one is lazy, or the model holds packed weights.
    """
    refuse_packed(model)
    found: dict[int, Weight] = {}
    for prefix, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            name = f"{prefix}.{key}" if prefix else key
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise ValueError(f"{name} is not initialised yet: run one forward pass before sparsify()")
            if parameter.dim() < 2:
                continue
            grouping, reason = _grouping(module, key)
            weight = found.setdefault(id(parameter), Weight(name, parameter, grouping, reason))
            weight.uses.append((module, key))
            if weight.grouping is not None and weight.grouping != grouping:  # grouped otherwise there, or not at all
                weight.grouping, weight.reason = None, f"tied to {name}, which is {reason or 'grouped otherwise'}"
            elif weight.grouping is None and grouping is not None and "tied to" not in weight.reason:
                weight.reason += f", tied to {name}"
    names = feed_forward(model)
    for weight in found.values():
        weight.feed_forward = weight.name in names
    return list(found.values())


def refuse_packed(model: nn.Module) -> None:
    """Raises ValueError if a layer holds its weight packed, where none of its numbers can be seen."""
    for name, module in model.named_modules():
        if getattr(module, "holds_a_packed_weight", False):
            raise ValueError(
                f"{name or type(module).__name__}: its weight is packed, as nmbench.kernels.convert does it: take the "
                "model that was converted"
            )


def default_candidates(model: nn.Module) -> list[str]:
    """Names of all convolution and linear weights but those of the last linear layer, if that is the last of all."""
    weights = [w for w in find_weights(model) if w.grouping is not None]
    linear = [w for w in weights if isinstance(w.uses[0][0], nn.Linear)]
    last = linear[-1].name if linear and linear[-1] is weights[-1] else None
    return [w.name for w in weights if w.name != last]


def _unknown(weights: list[Weight], text: str) -> ValueError:
    known = {w.name for w in weights if w.grouping is not None}
    other = next((w for w in weights if text in (w.name, module_name(w.name)) and w.reason), None)
    hint = near(known, text)
    if other is not None:
        hint = f": {other.reason}"
        if other.parameter.dim() > 2 or not isinstance(other.uses[0][0], _EMBEDDINGS):
            hint += f'; if a product reads it, say which dimension that sums over: layers={{"{text}": 1}}'
    if text == FFN:
        return ValueError(f"layers: {NO_FFN}")
    return ValueError(f"layers: {text!r} names no convolution or linear weight of this model{hint}")


def _by_dimension(weights: list[Weight], layers: Mapping[str, int]) -> None:
    """Group the named weights, of whatever layers, along the dimensions that the caller gives."""
    for text, dim in layers.items():
        found = hits([w.name for w in weights], text)
        if not found:
            raise _unknown(weights, text)
        for weight in (w for w in weights if w.name in found):
            if isinstance(dim, bool) or not isinstance(dim, int) or not 0 <= dim < weight.parameter.dim():
                shape = tuple(weight.parameter.shape)
                raise ValueError(f"layers: {weight.name} of shape {shape} has no dimension {dim!r} to group along")
            weight.grouping, weight.reason = Grouping(dim), ""


def _selector(weights: list[Weight], layers: Layers) -> Callable[[Weight], bool]:
    if layers is None:
        return lambda weight: True
    if callable(layers):
        rule = layers
        return lambda weight: bool(rule(module_name(weight.name) or weight.name, weight.uses[0][0]))
    if isinstance(layers, Mapping):
        _by_dimension(weights, layers)
    chosen: set[str] = set()
    known = [w for w in weights if w.grouping is not None]
    for text in [layers] if isinstance(layers, str) else layers:
        if not (found := named(known, text)):
            raise _unknown(weights, text)
        chosen |= found
    return lambda weight: weight.name in chosen


def _unfit(weight: Weight) -> str:
    """Why no pattern can be kept on it, from what its memory is."""
    parameter = weight.parameter
    if opaque(parameter):
        return f"a {type(parameter).__name__}, not a plain tensor"
    if parameter.layout is not torch.strided:
        return f"of layout {parameter.layout}"
    if not parameter.numel():
        return "it holds no numbers"
    if parameter.dtype not in _DTYPES:
        return f"no mask is made of {str(parameter.dtype).removeprefix('torch.')} weights"
    return ""


def _why_dense(weight: Weight, selected: Callable[[Weight], bool], pattern: NMPattern) -> str:
    """Why `pattern` is not kept on it; "" where it is."""
    if weight.grouping is None:
        return weight.reason
    if not selected(weight):
        return "left out by the choice of layers"
    if (width := weight.width(pattern)) < pattern.m:
        return f"its grouped dimension is {width}, below M = {pattern.m}"
    return _unfit(weight) or (UNDONE if undone_by_its_forward(*weight.uses[0]) else "")


def choose(weights: list[Weight], pattern: Patterns, layers: Layers) -> list[LayerInfo]:
    """One line for each weight: sparse, or dense and why. Raises ValueError for a name that fits nothing."""
    selected = _selector(weights, layers)
    lines, alike = [], isinstance(pattern, NMPattern)
    patterns: dict[str, NMPattern | str]
    if isinstance(pattern, NMPattern):
        patterns = {weight.name: pattern for weight in weights}
    else:
        patterns = assigned(weights, pattern, lambda weight, own: _why_dense(weight, selected, own))
    for weight in weights:
        own = patterns[weight.name]
        reason = weight.reason if weight.grouping is None else ""
        reason = reason or (own if isinstance(own, str) else _why_dense(weight, selected, own))
        shape, grouping = tuple(weight.parameter.shape), weight.grouping or Grouping()
        role = "dense" if reason else "sparse"
        kept = None if alike or reason or isinstance(own, str) else own
        lines.append(LayerInfo(weight.name, shape, role, reason, grouping, reason == UNDONE, kept))
    return lines


def require_numbers(weights: list[Weight]) -> None:
    """Raises ValueError if a candidate weight is on the meta device or fake, so that nothing can be kept of it."""
    for weight in weights:
        if weight.grouping is not None and numberless(weight.parameter):
            raise ValueError(
                f"{weight.name} has no numbers yet (meta device or fake tensor): load or initialise the weights first"
            )
