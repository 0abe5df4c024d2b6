"""The sparse matmul path of a finalised N:M model; it imports torch, and triton only when a kernel runs.

convert, apply_choices            a model -> the same with sparse layers where they are faster, and a report (convert)
save_converted, load_converted    converted models on disk (rebuild)
SparseLinear, SparseConv2d        the layers of a converted model (layers)
compress, decompress, NMTensor    compressed storage of a weight (nmtensor)
linear, conv2d, pack              one product, by whichever backend takes it (dispatch)
Backend, Problem                  what a way to multiply with it is asked (backend)
dense, cusparselt, cutlass        backends; registry finds them and those of other packages
triton                            Triton kernels for any N:M
"""

from nmbench.kernels.backend import Backend, Problem
from nmbench.kernels.convert.conversion import apply_choices, convert
from nmbench.kernels.convert.layers import SparseConv2d, SparseLinear
from nmbench.kernels.convert.rebuild import load_converted, save_converted
from nmbench.kernels.convert.report import Report
from nmbench.kernels.dispatch import conv2d, linear, pack
from nmbench.kernels.nmtensor import NMTensor, compress, decompress
from nmbench.kernels.packed import PackedWeight

__all__ = [
    "Backend",
    "NMTensor",
    "PackedWeight",
    "Problem",
    "Report",
    "SparseConv2d",
    "SparseLinear",
    "apply_choices",
    "compress",
    "conv2d",
    "convert",
    "decompress",
    "linear",
    "load_converted",
    "pack",
    "save_converted",
]
