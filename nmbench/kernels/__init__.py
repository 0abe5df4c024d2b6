"""The sparse matmul path of a finalised N:M model; it imports torch, and triton only when a kernel runs.

compress, decompress, NMTensor    compressed storage of a weight (nmtensor)
Backend, Problem                  what a way to multiply with it is asked (backend)
nm_triton                         Triton kernels for any N:M
"""

from nmbench.kernels.backend import Backend, Problem
from nmbench.kernels.nmtensor import NMTensor, compress, decompress

__all__ = ["Backend", "NMTensor", "Problem", "compress", "decompress"]
