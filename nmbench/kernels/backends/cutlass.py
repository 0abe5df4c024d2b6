"""The backend `cutlass`: semi-structured weights through the CUTLASS kernels that are compiled into torch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.sparse import SparseSemiStructuredTensorCUTLASS

from nmbench.kernels.backend import Problem
from nmbench.kernels.backends import libraries
from nmbench.kernels.backends.semi_structured import SemiStructured

__all__ = ["Cutlass"]


class Cutlass(SemiStructured):
    """16-bit floats, and int8 with sums in int32. torch's kernels may refuse newer GPUs, which is then the reason."""

    name = "cutlass"
    constraints = SparseSemiStructuredTensorCUTLASS._DTYPE_SHAPE_CONSTRAINTS

    def compress(self, matrix: Tensor) -> dict[str, Tensor]:
        """{"values", "meta"}."""
        values, meta = libraries.compressed(self.name, matrix)
        return {"values": values, "meta": meta}

    def multiply(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, outs: int, problem: Problem
    ) -> Tensor:
        """x: (rows, depth) -> (rows, outs)."""
        y: Tensor = libraries.product(x, [packed["values"], packed["meta"]], bias, outs, self.name, [])
        return y
