"""The calls into torch's libraries for semi-structured weights, and nothing else: the one place that needs a GPU.

`LIBRARIES` holds the functions by name, so that a test can put a dense product in their place.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.sparse import _semi_structured_conversions as conversions

from nmbench._util.devices import on
from nmbench.kernels.backend import Kind, Refusal, result_dtype

#: names of what a search finds
SETTINGS = ("alg_id", "split_k", "split_k_mode")


@dataclass(frozen=True)
class Library:
    """compress: matrix (outs, depth) -> tensors. mm: (x (rows, depth), tensors, bias, settings) -> (rows, outs).
    search: the same without settings -> [alg_id, split_k, split_k_mode], or the first of them."""

    compress: Callable[[Tensor], list[Tensor]]
    mm: Callable[[Tensor, list[Tensor], Tensor | None, list[int]], Tensor]
    search: Callable[[Tensor, list[Tensor], Tensor | None], list[int]] | None = None


@torch.library.custom_op(
    "nmbench::semi_structured_mm",
    mutates_args=(),
    schema="(Tensor x, Tensor[] packed, Tensor? bias, int outs, str library, int[] settings) -> Tensor",
)
def product(
    x: Tensor, packed: list[Tensor], bias: Tensor | None, outs: int, library: str, settings: list[int]
) -> Tensor:
    """x: (rows, depth), contiguous -> (rows, outs), contiguous, of `result_dtype`. For inference: no gradient.

    Sums of 8-bit operands get their bias here, in the dtype of the sums.
    """
    if x.data_ptr() % 16:  # the libraries load 16 bytes at a time
        x = x.clone()
    wide = x.dtype.itemsize > 1
    with on(x.device):
        y = LIBRARIES[library].mm(x, packed, bias if wide else None, settings)
    return y if wide or bias is None else y.add_(bias.to(y.dtype))


@product.register_fake
def _(x: Tensor, packed: list[Tensor], bias: Tensor | None, outs: int, library: str, settings: list[int]) -> Tensor:
    return x.new_empty((x.shape[0], outs), dtype=result_dtype(x.dtype))


def compressed(library: str, matrix: Tensor) -> list[Tensor]:
    """matrix: (outs, depth), 2 of 4, contiguous."""
    with on(matrix.device):
        return LIBRARIES[library].compress(matrix)


def fastest(library: str, x: Tensor, packed: list[Tensor], bias: Tensor | None) -> list[int]:
    """[alg_id, split_k, split_k_mode] that the library's search finds; [] where it has none."""
    search = LIBRARIES[library].search
    if search is None:
        return []
    with on(x.device):
        return search(x, packed, bias if x.dtype.itemsize > 1 else None)


def usable(library: str, dtype: torch.dtype) -> Refusal | None:
    """None, or what the library says when it is asked for a small product of this dtype on the current GPU.

    It is asked once for each GPU; not having had the memory for the question is not remembered.
    """
    index = torch.cuda.current_device() if torch.cuda.is_available() else 0
    try:
        return _asked(library, dtype, torch.device("cuda", index))
    except torch.OutOfMemoryError:
        return Refusal(f"no memory left to try {library}", Kind.MACHINE)


@functools.cache
def _asked(library: str, dtype: torch.dtype, device: torch.device) -> Refusal | None:
    try:
        matrix = torch.zeros(128, 128, device=device)
        matrix[:, ::2] = 1
        packed = compressed(library, matrix.to(dtype))
        y = product(torch.ones(32, 128, device=device).to(dtype), packed, None, 128, library, [])
        right = bool((y == 64).all())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever it is, the other backends are there
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Refusal(f"{library} says: {lines[0]}", Kind.MACHINE)
    return None if right else Refusal(f"{library} multiplies wrongly here", Kind.FAULT)


# -- cuSPARSELt ---------------------------------------------------------------------------------------------------
#: problems for which it does not take the algorithm that it found for other sizes: its default runs those
_REJECTED: set[tuple[object, ...]] = set()


def _cusparselt_mm(x: Tensor, packed: list[Tensor], bias: Tensor | None, settings: list[int]) -> Tensor:
    out = None if x.dtype.itemsize > 1 else result_dtype(x.dtype)
    about = (tuple(x.shape), tuple(packed[0].shape), x.dtype, tuple(settings))
    chosen: Any = dict(zip(SETTINGS, settings, strict=False))
    if about not in _REJECTED:
        try:
            return torch._cslt_sparse_mm(packed[0], x.t(), bias=bias, out_dtype=out, transpose_result=True, **chosen)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            if not chosen:
                raise
            _REJECTED.add(about)
    return torch._cslt_sparse_mm(packed[0], x.t(), bias=bias, out_dtype=out, transpose_result=True)


def _cusparselt_search(x: Tensor, packed: list[Tensor], bias: Tensor | None) -> list[int]:
    out = None if x.dtype.itemsize > 1 else result_dtype(x.dtype)
    search = getattr(getattr(torch._C, "_cusparselt", None), "mm_search", None)
    if search is not None:  # gives the split of the reduction too
        return [int(n) for n in search(packed[0], x.t(), bias, None, out, True)[:3]]
    return [int(torch._cslt_sparse_mm_search(packed[0], x.t(), bias=bias, out_dtype=out, transpose_result=True))]


# -- CUTLASS ------------------------------------------------------------------------------------------------------
def _cutlass_mm(x: Tensor, packed: list[Tensor], bias: Tensor | None, settings: list[int]) -> Tensor:
    values, meta = packed
    if bias is None:
        out = None if x.dtype.itemsize > 1 else result_dtype(x.dtype)
        y = torch._sparse_semi_structured_mm(values, meta, x.t(), out_dtype=out)
    else:
        y = torch._sparse_semi_structured_addmm(bias, values, meta, x.t())
    return y.t().contiguous()


LIBRARIES: dict[str, Library] = {
    "cusparselt": Library(lambda matrix: [torch._cslt_compress(matrix)], _cusparselt_mm, _cusparselt_search),
    "cutlass": Library(
        lambda matrix: list(conversions.sparse_semi_structured_from_dense_cutlass(matrix)),  # type: ignore[no-untyped-call]
        _cutlass_mm,
    ),
}
