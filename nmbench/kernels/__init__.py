"""The sparse matmul path of a finalised N:M model; it imports torch, and triton only when a kernel runs.

compress, decompress, NMTensor    compressed storage of a weight (nmtensor)
linear, conv2d, pack              one product, by whichever backend takes it (dispatch)
Backend, Problem                  what a way to multiply with it is asked (backend)
dense, cusparselt, cutlass        backends; registry finds them and those of other packages
nm_triton                         Triton kernels for any N:M
"""

from nmbench.kernels.backend import Backend, Problem
from nmbench.kernels.dispatch import conv2d, linear, pack
from nmbench.kernels.nmtensor import NMTensor, compress, decompress
from nmbench.kernels.packed import PackedWeight

__all__ = [
    "Backend",
    "NMTensor",
    "PackedWeight",
    "Problem",
    "compress",
    "conv2d",
    "decompress",
    "linear",
    "pack",
]
