"""The compiled products: lanes.c once a pattern, rows.c once for all.

NMBENCH_CPU_ISA=avx2 or portable builds for less than the processor has, to measure or test that.
"""

import ctypes
import functools
import os
import platform
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from nmbench._util.native import NotCompiled, compiled
from nmbench.sparsity import NMPattern

ISA_VARIABLE = "NMBENCH_CPU_ISA"
_WIDTHS = (16, 8, 4, 2)
_pointer, _long, _int, _pair = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_long * 2


class Form(IntEnum):
    """How a weight is packed; lanes.c and rows.c say what each means."""

    WIDE = 0
    NARROW = 1
    HALF = 2
    DOT = 3
    ROWS = 4  # of rows.c


class Layer(ctypes.Structure):
    """`struct layer` of rows.c; that of lanes.c is its beginning."""

    _fields_ = (
        *((name, _pointer) for name in ("x", "w", "addend", "bias", "y")),
        *((name, _long) for name in ("images", "height", "width", "channels", "outputs", "groups")),
        *((name, _long) for name in ("out_height", "out_width")),
        *((name, _pair) for name in ("kernel", "stride", "padding", "dilation")),
        *((name, _int) for name in ("form", "rows", "blocks", "relu", "threads", "n", "m")),
    )


@dataclass(frozen=True)
class Lanes:
    """Compiled functions, and what they were built for.

    heads: how many arguments say the form or the pattern. lanes: of one vector. portable: without vector instructions
    of its own, for processors that we do not know.
    """

    functions: ctypes.CDLL
    heads: int
    lanes: int
    portable: bool

    def has(self, form: Form) -> bool:
        """Was it compiled in?"""
        return bool(self.functions.nm_has(form))


@functools.cache  # asked at every product
def covering(pattern: NMPattern) -> NMPattern | None:
    """The pattern of ours that every weight of `pattern` keeps to; None if none is sparse.

    Groups of M are cut into groups of the largest of 16, 8, 4 and 2 that divides M: 1:32 runs as 1:16, 2:12 as 2:4.
    """
    m = next((width for width in _WIDTHS if pattern.m % width == 0), 1)
    n = min(pattern.n, m)
    return NMPattern(n, m) if n < m and pattern.axis == "input" else None


def library(pattern: NMPattern) -> Lanes | str:
    """The functions for `pattern` (one of ours), compiled now if they are not yet; else why there are none."""
    return _library(pattern.n, pattern.m, os.environ.get(ISA_VARIABLE, ""))


def prepare(patterns: Iterable[NMPattern]) -> None:
    """Compile what `patterns` need, several at once."""
    ours = {one for pattern in patterns if (one := covering(pattern)) is not None}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(library, sorted(ours, key=str)))


def rows_library() -> Lanes | str:
    """The functions of rows.c, for every pattern; else why there are none."""
    return _built("rows.c", (), os.environ.get(ISA_VARIABLE, ""), 2)


def _library(n: int, m: int, isa: str) -> Lanes | str:
    return _built("lanes.c", (f"-DNM_N={n}", f"-DNM_M={m}"), isa, 1)


@functools.cache
def _built(name: str, about: tuple[str, ...], isa: str, heads: int) -> Lanes | str:
    if isa not in ("", "avx2", "portable"):
        return f"{ISA_VARIABLE} is {isa!r}: use avx2 or portable, or leave it empty"
    flags = [*about, "-Wno-psabi", *_isa_flags(isa)]
    source = Path(__file__).with_name(name)
    try:
        try:
            functions = compiled(source, [*flags, "-fopenmp"])
        except NotCompiled:  # a compiler, or a torch, without OpenMP: one thread
            functions = compiled(source, flags)
    except NotCompiled as error:
        return str(error)
    head = [_long] * heads if heads > 1 else [_int]
    functions.nm_bytes.argtypes, functions.nm_bytes.restype = [*head, *[_long] * 4], ctypes.c_size_t
    functions.nm_pack.argtypes, functions.nm_pack.restype = [*head, _pointer, *[_long] * 4, _pointer], _long
    functions.nm_unpack.argtypes, functions.nm_unpack.restype = [*head, _pointer, *[_long] * 4, _pointer], None
    functions.nm_run.argtypes, functions.nm_run.restype = [_pointer], _int
    return Lanes(functions, heads, functions.nm_lanes(), bool(functions.nm_portable()))


def _isa_flags(isa: str) -> list[str]:
    if isa == "portable":
        return ["-DNM_PORTABLE"]
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return ["-mno-avx512f"] if isa == "avx2" and on_x86 else []
