"""The backend `cusparselt`: semi-structured weights through cuSPARSELt, as torch ships it."""

import torch
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT

from nmbench.kernels.backend import Kind, Problem, Refusal
from nmbench.kernels.backends.semi_structured import SemiStructured


class CuSparseLt(SemiStructured):
    """16-bit floats, int8 (sums in int32) and 8-bit floats (result in bfloat16), with the library's search."""

    name = "cusparselt"
    constraints = SparseSemiStructuredTensorCUSPARSELT._DTYPE_SHAPE_CONSTRAINTS

    def missing(self, problem: Problem) -> Refusal | None:
        """torch built without it, or a GPU or dtype that it refuses."""
        if not torch.backends.cusparselt.is_available():
            return Refusal("this torch was built without cuSPARSELt", Kind.MACHINE)
        return super().missing(problem)
