"""`cost`: parameters, non-zeros, multiply-accumulates (MACs) and bytes of a model, dense and sparse.

MACs are counted on the operations that really run in one forward pass, so functional code (attention, RAFT's
repeated update block) counts too; fused recurrent kernels (LSTM, GRU) do not show theirs and are left out. Effective
MACs weigh each operation by the density of the weight that it reads.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nmbench.sparsity.allocation import Patterns, PatternsLike, read
from nmbench.sparsity.attach import is_attached
from nmbench.sparsity.products import operands, ordinary_forward
from nmbench.sparsity.select import LayerInfo, refuse_packed

_ACTIVATIONS = "(between activations)"


@dataclass(frozen=True)
class LayerCost:
    """One parameter. macs: of one forward pass. bytes_compressed equals bytes for a dense one."""

    name: str
    weights: int
    nonzeros: int
    macs: int
    macs_effective: float
    bytes: int
    bytes_compressed: int


@dataclass(frozen=True)
class Cost:
    """Totals over all parameters (buffers are not counted), and the lines they sum up.

    `other_macs` are products between activations (attention), which no weight sparsity reduces; they are in both
    `macs_dense` and `macs_effective`.
    """

    layers: tuple[LayerCost, ...]
    other_macs: int

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(layer.weights for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        """Number of parameters that are not zero."""
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def macs_dense(self) -> int:
        """MACs of the forward pass if every weight is multiplied."""
        return sum(layer.macs for layer in self.layers) + self.other_macs

    @property
    def macs_effective(self) -> int:
        """MACs of the forward pass if only non-zero weights are multiplied."""
        return round(sum(layer.macs_effective for layer in self.layers)) + self.other_macs

    @property
    def bytes_dense(self) -> int:
        """Bytes of all parameters stored dense."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def bytes_compressed(self) -> int:
        """Bytes with the sparse layers stored as N values a group and ceil(log2 M) bits a position."""
        return sum(layer.bytes_compressed for layer in self.layers)


def compressed_bytes(info: LayerInfo, run: Patterns, itemsize: int) -> int:
    """Bytes of one weight, stored compressed in its own pattern, where it has one, else in that of the run.

    A short last group takes the room of a whole one. One that an allocation leaves whole is stored dense.
    """
    pattern = info.own(run)
    if info.pattern is not None and pattern.n == pattern.m:
        return math.prod(info.shape) * itemsize
    outer, size, inner = info.grouping.logical(info.shape, pattern.axis)
    kept = outer * -(-size // pattern.m) * inner * pattern.n
    return kept * itemsize + -(-kept * pattern.index_bits // 8)


def _matmul(out: Tensor, left: Tensor) -> int:
    return int(out.numel()) * int(left.shape[-1])


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    rows, columns = query.shape[-2], key.shape[-2]
    return int(query.numel() // query.shape[-1] // rows) * rows * columns * (query.shape[-1] + value.shape[-1])


class _MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up MACs by the storage of the weight that an operation reads."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.macs: dict[str, int] = defaultdict(int)

    def _add(self, macs: int, *operands: Any) -> None:
        owners = [self.names.get(t.untyped_storage().data_ptr()) for t in operands if isinstance(t, Tensor)]
        self.macs[next((name for name in owners if name), _ACTIVATIONS)] += macs

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "convolution":
            inputs, weight, transposed = args[0], args[1], args[6]
            self._add((inputs if transposed else out).numel() * weight[0].numel(), weight)
        elif name == "deform_conv2d":
            self._add(out.numel() * args[1][0].numel(), args[1])
        elif factors := operands(func, args):
            self._add(_matmul(out, factors[1]), *factors)
        elif name.startswith("_scaled_dot_product") and "backward" not in name:
            self._add(_attention(*args[:3]))
        return out


def _count_macs(model: nn.Module, example_inputs: tuple[Any, ...]) -> dict[str, int]:
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        names.setdefault(parameter.untyped_storage().data_ptr(), name)
    with ordinary_forward(model), _MacCounter(names) as counter:
        model(*example_inputs)
    return dict(counter.macs)


def cost(
    model: nn.Module,
    example_inputs: tuple[Any, ...],
    pattern: PatternsLike | None = None,
    layers: Iterable[LayerInfo] = (),
) -> Cost:
    """Count parameters, non-zeros, MACs and bytes of a dense or finalised model.

    Args:
        model: not attached to a handle any more; left in the mode it was in.
        example_inputs: positional inputs of one forward pass; MACs are for this batch.
        pattern, layers: `handle.pattern` and `handle.layers`, for the compressed size; without them nothing is
            compressed.

    Raises:
        ValueError: the model is still attached (its parameters are the dense weights), or converted.
    """
    refuse_packed(model)
    if is_attached(model):
        raise ValueError("cost() needs a dense or finalised model: call handle.finalize() first")
    parsed = None if pattern is None else read(pattern)
    sparse = {info.name: info for info in layers if info.sparse}
    macs = _count_macs(model, example_inputs)
    lines = []
    for name, parameter in model.named_parameters():
        count, nonzeros = parameter.numel(), int(torch.count_nonzero(parameter.detach()))
        size = stored = count * parameter.element_size()
        if parsed is not None and name in sparse:
            stored = compressed_bytes(sparse[name], parsed, parameter.element_size())
        effective = macs.get(name, 0) * (nonzeros / count if count else 0.0)
        lines.append(LayerCost(name, count, nonzeros, macs.get(name, 0), effective, size, stored))
    return Cost(tuple(lines), macs.get(_ACTIVATIONS, 0))
