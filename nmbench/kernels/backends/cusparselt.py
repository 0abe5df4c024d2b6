"""The backend `cusparselt`: semi-structured weights through cuSPARSELt, as torch ships it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT

from nmbench.kernels.backend import Kind, Problem, Refusal, Settings
from nmbench.kernels.backends import libraries
from nmbench.kernels.backends.semi_structured import SemiStructured

__all__ = ["CuSparseLt"]

_NAMES = ("alg_id", "split_k", "split_k_mode")


class CuSparseLt(SemiStructured):
    """16-bit floats, int8 (sums in int32) and 8-bit floats (result in bfloat16), with the library's search."""

    name = "cusparselt"
    constraints = SparseSemiStructuredTensorCUSPARSELT._DTYPE_SHAPE_CONSTRAINTS

    def missing(self, problem: Problem) -> Refusal | None:
        """torch built without it, or a GPU or dtype that it refuses."""
        if not torch.backends.cusparselt.is_available():
            return Refusal("this torch was built without cuSPARSELt", Kind.MACHINE)
        return super().missing(problem)

    def compress(self, matrix: Tensor) -> dict[str, Tensor]:
        """{"packed"}: values and positions, in an order that depends on GPU and library version."""
        return {"packed": libraries.compressed(self.name, matrix)[0]}

    def multiply(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, outs: int, problem: Problem
    ) -> Tensor:
        """x: (rows, depth) -> (rows, outs)."""
        settings = [value for _, value in problem.settings]
        y: Tensor = libraries.product(x, [packed["packed"]], bias, outs, self.name, settings)
        return y

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """The default algorithm, and the one that the library's search finds for the (first) product."""
        matrix, shift, _ = self.first_group(x, bias, problem)
        fastest = libraries.fastest(self.name, matrix, [packed["packed"][0]], shift)
        return list(dict.fromkeys([(), tuple(zip(_NAMES, fastest, strict=False))]))
