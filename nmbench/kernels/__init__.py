"""The sparse matmul path of a finalised N:M model; it imports torch, and triton only when a kernel runs.

convert                           a model -> the same with sparse layers where they are faster, and a report (convert)
apply_choices                     the same from an earlier report; save_converted, load_converted: on disk
SparseLinear, SparseConv2d        the layers of a converted model
compress, decompress, NMTensor    compressed storage of a weight (nmtensor)
linear, conv2d, pack              one product, by whichever backend takes it (dispatch)
Backend, Problem, Refusal         a way to multiply, what it is asked, and why it does not (backend, problem)
backends                          cusparselt, cutlass, triton, dense; registry finds them and those of other packages
triton                            Triton kernels for any N:M
bench                             `nmbench kernels`: backends measured against the best dense product
"""

from nmbench.kernels.backend import Backend, Kind, Problem, Refusal
from nmbench.kernels.conversion.convert import convert
from nmbench.kernels.conversion.layers import SparseConv2d, SparseLinear
from nmbench.kernels.conversion.rebuild import apply_choices, load_converted, save_converted
from nmbench.kernels.conversion.report import Report
from nmbench.kernels.dispatch import conv2d, linear, pack
from nmbench.kernels.nmtensor import NMTensor, compress, decompress
from nmbench.kernels.packed import PackedWeight

__all__ = [
    "Backend",
    "Kind",
    "NMTensor",
    "PackedWeight",
    "Problem",
    "Refusal",
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
