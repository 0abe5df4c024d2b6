"""The backend `cutlass`: semi-structured weights through the CUTLASS kernels that are compiled into torch."""

from torch.sparse import SparseSemiStructuredTensorCUTLASS

from nmbench.kernels.backends.semi_structured import SemiStructured


class Cutlass(SemiStructured):
    """16-bit floats, and int8 with sums in int32. torch's kernels may refuse newer GPUs, which is then the reason."""

    name = "cutlass"
    constraints = SparseSemiStructuredTensorCUTLASS._DTYPE_SHAPE_CONSTRAINTS
