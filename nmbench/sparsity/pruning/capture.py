"""What each sparse weight is multiplied with, seen at the products themselves: by whatever module they are called.

So the output projection of torch's attention, which no hook sees, counts as any other, and a layer that runs twelve
times in a forward pass counts twelve times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nmbench.sparsity.products import operands
from nmbench.sparsity.pruning.base import Statistics
from nmbench.sparsity.pruning.calibration import Stop
from nmbench.sparsity.pruning.layout import Convolution, Layout, computed
from nmbench.sparsity.select import LayerInfo


class Layer:
    """One weight that is to be pruned, and what is known of its inputs.

    Attributes:
        info, layout, module: what it is. parameter: the weight itself.
        statistics: (first row, end) of the weight, as products read it -> statistics of each matrix of the layout.
        reason: why it cannot be pruned, as far as that is known.
    """

    def __init__(self, info: LayerInfo, module: nn.Module, parameter: Tensor, layout: Layout) -> None:
        self.info, self.module, self.parameter, self.layout = info, module, parameter, layout
        self.statistics: dict[tuple[int, int], list[Statistics]] = {}
        self.reason = ""

    @property
    def rows(self) -> int:
        """Rows of each of its matrices."""
        return self.layout.shape[self.layout.order[1]]

    def of_rows(self, start: int, end: int) -> list[Statistics]:
        """The statistics of these rows."""
        return self.statistics.setdefault((start, end), [Statistics() for _ in range(self.layout.parts)])

    def gap(self) -> str:
        """Why `statistics` do not tell of all of its inputs; "" where they do, each row once."""
        seen = sorted(self.statistics)
        ends = [0, *(end for _, end in seen)]
        if not seen:
            return self.reason or "calibration saw no product with it"
        if [start for start, _ in seen] != ends[:-1] or ends[-1] != self.rows:
            return "only parts of it are multiplied on the calibration data"
        return self.reason

    def settle(self, sequences: int, gradient: Tensor | None) -> None:
        """Calibration is over; all statistics get what is known of the whole. gradient: of the shape of the weight."""
        whole = None if gradient is None else self.layout.read(computed(gradient))
        for (start, end), parts in self.statistics.items():
            for i, stats in enumerate(parts):
                stats.sequences = sequences
                stats.gradient = None if whole is None else whole[i, start:end]

    def finite(self) -> bool:
        """Are all statistics numbers?"""
        return all(
            bool(torch.isfinite(value).all())
            for parts in self.statistics.values()
            for stats in parts
            for value in (stats.square, stats.gram, stats.gradient)
            if value is not None
        )


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is on, products with the weights of `layers` are added to their statistics, and counted in `uses`.

    uses: in the order in which the weights came first. Without `needs` products are only counted. `Stop` is raised once
    each weight was used as often as `enough` says.
    """

    def __init__(
        self, layers: Iterable[Layer], needs: frozenset[str], enough: Mapping[Layer, int] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uses: dict[Layer, int] = {}
        self._needs, self._enough = needs, enough
        self._layers = {layer.parameter.untyped_storage().data_ptr(): layer for layer in layers}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.namespace == "aten" and (factors := operands(func, args)):
            if name in ("convolution", "_convolution"):
                self._convolved(args)
            else:
                self._multiplied(name, *factors)
        return out

    def _of(self, tensor: Tensor) -> Layer | None:
        return self._layers.get(tensor.untyped_storage().data_ptr())

    def _convolved(self, args: Any) -> None:
        if (layer := self._of(args[1])) is not None:
            channels_last = layer.layout.columns.pattern.axis == "input"
            rows = Convolution.called(args).rows(args[0].detach(), channels_last) if self._needs else ()
            self._add(layer, 0, layer.rows, rows)

    def _multiplied(self, name: str, right: Tensor, left: Tensor) -> None:
        """right, left: the operands of a product left @ right; of aten.linear right is transposed."""
        if (layer := self._of(right)) is not None:
            factor, x = (right.t() if name == "linear" else right), left
        elif (layer := self._of(left)) is not None and left.dim() == right.dim() == 2:
            factor, x = left.t(), right.t()
        else:
            return
        if factor.dim() == 3 and (len(factor) == 1 or factor.stride(0) == 0):  # one weight for a batch of products
            factor = factor[0]
        weight, dim = layer.parameter, layer.info.grouping.dim
        columns = weight.shape[dim]
        if factor.dim() != 2 or x.shape[-1] != columns or factor.stride(0) != weight.stride(dim):
            layer.reason = "a product sums over another dimension of it than its layer does"
            return
        start = int(factor.storage_offset() - weight.storage_offset()) // int(weight.stride(1 - dim))
        self._add(layer, start, start + factor.shape[1], [x.detach().reshape(1, -1, columns)])

    def _add(self, layer: Layer, start: int, end: int, rows: Iterable[Tensor]) -> None:
        """rows: (matrices, tokens, columns), in pieces."""
        statistics = layer.of_rows(start, end)
        for piece in rows if self._needs else ():
            for stats, part in zip(statistics, piece, strict=True):
                stats.add(part, self._needs)
        self.uses[layer] = self.uses.get(layer, 0) + 1
        if self._enough and all(self.uses.get(one, 0) >= uses for one, uses in self._enough.items()):
            raise Stop
