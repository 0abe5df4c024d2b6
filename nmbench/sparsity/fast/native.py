"""Calls nm.c, compiled on first use: one fused pass over a CPU weight instead of many elementwise ones.

Where no compiler is found, or NMBENCH_NATIVE=0 is set, `library()` is None and the torch code with equal results runs.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from nmbench._util.native import NotCompiled, compiled
from nmbench.sparsity.memory import addressable

#: dtype -> (width in bits, bits of +infinity)
_KEYS = {
    torch.float32: (32, 0x7F800000),
    torch.float64: (64, 0x7FF0000000000000),
    torch.float16: (16, 0x7C00),
    torch.bfloat16: (16, 0x7F80),
}
_DECAY = {torch.float32: "f32", torch.float64: "f64"}
_reason = ""


class Result(ctypes.Structure):
    """What a pass found: `flips` against the old mask, `nonfinite` (0 or 1), `checksum` of the weight."""

    _fields_ = (("flips", ctypes.c_int64), ("nonfinite", ctypes.c_int64), ("checksum", ctypes.c_uint64))
    flips: int
    nonfinite: int
    checksum: int


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled passes, or None (see `why_not`)."""
    global _reason
    try:
        lib = compiled(Path(__file__).with_name("nm.c"))
    except NotCompiled as error:
        _reason = str(error)
        return None
    pointer, i64, integer = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for bits in (16, 32, 64):
        update_ = getattr(lib, f"nm_update_{bits}")
        update_.argtypes = [pointer] * 3 + [i64] * 3 + [integer] * 2 + [ctypes.c_uint64, pointer]
        update_.restype = None
        apply_ = getattr(lib, f"nm_apply_{bits}")
        apply_.argtypes = [pointer] * 3 + [i64, pointer]
        apply_.restype = None
    for name in _DECAY.values():
        decay_ = getattr(lib, f"nm_decay_{name}")
        decay_.argtypes = [pointer] * 3 + [i64, ctypes.c_double]
        decay_.restype = None
    return lib


def why_not() -> str:
    """Why `library()` is None, in words; empty if it is there."""
    return "" if library() is not None else _reason


def available_for(weight: Tensor) -> bool:
    """True if the compiled passes can take `weight` (plain, on the CPU, of a floating dtype that they know)."""
    return weight.dtype in _KEYS and weight.is_cpu and addressable(weight) and library() is not None


class Plan:
    """The passes for one weight and its mask where they lie now, with everything looked up beforehand.

    In a small network the look-ups cost more than the passes. `fits` says whether the plan still holds.
    layout: (outer, size, inner) of the physical memory, see nm.c; None if `update` will not be called.
    """

    def __init__(self, weight: Tensor, mask: Tensor, layout: tuple[int, int, int] | None, n: int, m: int) -> None:
        lib = library()
        assert lib is not None
        bits, infinity = _KEYS[weight.dtype]
        self.layout = layout
        self._where = (weight.data_ptr(), mask.data_ptr())
        self._what = (weight.dtype, weight.stride())
        self._count = weight.numel()
        self._update = getattr(lib, f"nm_update_{bits}")
        self._apply = getattr(lib, f"nm_apply_{bits}")
        self._result = Result()
        self._tail = (*(layout or ()), n, m, infinity, ctypes.addressof(self._result))
        self._address = ctypes.addressof(self._result)

    def fits(self, weight: Tensor, mask: Tensor) -> bool:
        """Are weight and mask still where and what they were?"""
        here = weight.data_ptr() == self._where[0] and mask.data_ptr() == self._where[1]
        return here and weight.dtype == self._what[0] and weight.stride() == self._what[1]

    def update(self, out: Tensor | None) -> Result:
        """Renew the mask in place and write weight * mask to `out`, if given (strides of the weight)."""
        self._update(*self._where, None if out is None else out.data_ptr(), *self._tail)
        return self._result

    def apply(self, out: Tensor) -> int:
        """Write weight * mask to `out` (strides of the weight) and return the checksum of the weight."""
        self._apply(*self._where, out.data_ptr(), self._count, self._address)
        return self._result.checksum


def update(weight: Tensor, mask: Tensor, out: Tensor | None, layout: tuple[int, int, int], n: int, m: int) -> Result:
    """One call of `Plan.update`; weight, mask (bool) and out have equal strides."""
    return Plan(weight, mask, layout, n, m).update(out)


def decay(weight: Tensor, mask: Tensor, grad: Tensor, lambda_w: float) -> bool:
    """grad += lambda_w * (1 - mask) * weight in one pass; False if these tensors are not for it."""
    if weight.dtype not in _DECAY or grad.dtype != weight.dtype or library() is None:
        return False
    if not (weight.is_cpu and grad.is_cpu and mask.is_cpu and addressable(weight, grad, mask)):
        return False
    if grad.stride() != weight.stride() or mask.stride() != weight.stride():
        return False
    call = getattr(library(), f"nm_decay_{_DECAY[weight.dtype]}")
    call(weight.data_ptr(), mask.data_ptr(), grad.data_ptr(), weight.numel(), lambda_w)
    return True
