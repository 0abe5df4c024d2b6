"""The libraries for semi-structured weights with a dense product in place of the call that needs a GPU.

All that the backends do around that call, and CUTLASS's packing itself, is as it is on a GPU.

fakes           puts the products in place (a context manager)
OnCpu           a semi-structured backend that takes a CPU for a GPU
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor
from torch.sparse import _semi_structured_conversions as conversions

from nmbench.kernels.backend import result_dtype
from nmbench.kernels.backends import libraries
from nmbench.kernels.backends.cusparselt import CuSparseLt
from nmbench.kernels.backends.cutlass import Cutlass
from nmbench.kernels.backends.libraries import Library

#: (library, shape of x, shape of the weight, bias given, settings) of each product
calls: list[tuple[str, tuple[int, ...], tuple[int, ...], bool, tuple[int, ...]]] = []


def _product(library: str, x: Tensor, matrix: Tensor, bias: Tensor | None, settings: list[int]) -> Tensor:
    calls.append((library, tuple(x.shape), tuple(matrix.shape), bias is not None, tuple(settings)))
    assert x.is_contiguous()
    assert bias is None or bias.shape == (matrix.shape[0],)
    if x.dtype == torch.int8:
        return x.int() @ matrix.int().t()
    y = x.double() @ matrix.double().t()
    return (y if bias is None else y + bias.double()).to(result_dtype(x.dtype))


def _compress(matrix: Tensor) -> list[Tensor]:
    assert matrix.is_contiguous()
    return [matrix.clone()]


def _cutlass(x: Tensor, packed: list[Tensor], bias: Tensor | None, settings: list[int]) -> Tensor:
    return _product("cutlass", x, conversions.sparse_semi_structured_to_dense_cutlass(*packed), bias, settings)


FAKES = {
    "cusparselt": Library(
        _compress,
        lambda x, packed, bias, settings: _product("cusparselt", x, packed[0], bias, settings),
        lambda x, packed, bias: [3, 1, -1],
    ),
    "cutlass": Library(libraries.LIBRARIES["cutlass"].compress, _cutlass),
}


@contextlib.contextmanager
def fakes() -> Iterator[None]:
    calls.clear()
    with mock.patch.dict(libraries.LIBRARIES, FAKES):
        yield


class OnCpu:
    """Mixed in before a backend."""

    def refusal(self, problem):
        return super().refusal(replace(problem, device="cuda", capability=(9, 0)))

    def missing(self, problem):
        return None


class FakeCuSparseLt(OnCpu, CuSparseLt):
    pass


class FakeCutlass(OnCpu, Cutlass):
    pass
