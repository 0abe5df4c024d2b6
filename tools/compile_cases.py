"""What the compile check compiles: each kernel with the argument types and constants that its launcher would give.

Case    a kernel, ready to compile
cases   all of them for some patterns and dtypes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nmbench.sparsity import NMPattern

__all__ = ["DTYPES", "Case", "cases"]

DTYPES = ("fp16", "bf16", "fp32", "i8", "fp8")
_IN = {"fp8": "i8"}
_OUT = {"fp16": "fp16", "bf16": "bf16", "fp32": "fp32", "i8": "i32", "fp8": "bf16"}

_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8, "i8": 1, "fp8": 1}


@dataclass(frozen=True)
class Case:
    """A kernel with everything that fixes its code.

    kinds: argument -> Triton's type. aligned: arguments that are multiples of 16. tile: what sets it apart, in words.
    """

    kernel: Any
    pattern: str
    dtype: str
    kinds: Mapping[str, str]
    constants: Mapping[str, Any]
    aligned: tuple[str, ...]
    tile: str = ""
    warps: int = 4
    stages: int = 3
    multiplies: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        """Kernel, pattern, dtype, tile."""
        return f"{self.dtype:>4} {self.pattern:>5} {self.kernel.__name__:<15} {self.tile:<18}"


def cases(patterns: Sequence[str], dtypes: Sequence[str], *, every: bool) -> Iterator[Case]:
    """Kernels of inference and storage for each pattern and dtype, those of training for the floating ones."""
    for dtype in dtypes:
        yield _reduce(dtype)
        for text in patterns:
            yield from _products(NMPattern.parse(text), dtype, every)
            yield from _storage(NMPattern.parse(text), dtype)
    for dtype in dtypes:
        if dtype in ("fp16", "bf16", "fp32"):
            yield from _training(patterns, dtype)
    if "fp32" in dtypes:
        yield from _training(patterns, "fp64")  # of which there is no inference


def _training(patterns: Sequence[str], dtype: str) -> Iterator[Case]:
    yield from _decay(dtype)
    for text in patterns:
        yield from _update(NMPattern.parse(text), dtype)


def _products(pattern: NMPattern, dtype: str, every: bool) -> Iterator[Case]:
    from nmbench.kernels.triton.conv import conv_kernel
    from nmbench.kernels.triton.matmul import matmul_kernel
    from nmbench.kernels.triton.split_k import split_k_kernel
    from nmbench.kernels.triton.tuning import fits

    for tuned in (matmul_kernel, split_k_kernel, *([] if dtype == "fp8" else [conv_kernel])):
        wide, convolution = _BYTES[dtype], tuned is conv_kernel
        kept = [one for one in tuned.configs if fits(one, pattern.n, pattern.m, wide, convolution=convolution)]
        longest = max(kept, key=lambda one: one.kwargs["BLOCK_K"], default=None)
        for config in kept if every else {id(one): one for one in (*kept[:1], longest) if one}.values():
            for direct in (False, True) if tuned is split_k_kernel else (False,):
                yield _product(tuned.fn, pattern, dtype, config, direct)
        if kept:
            yield replace(_product(tuned.fn, pattern, dtype, kept[0], False), aligned=(), tile="nothing aligned")


def _product(kernel: Any, pattern: NMPattern, dtype: str, config: Any, direct: bool) -> Case:
    import triton.language as tl

    constants = {"HAS_BIAS": True, "ACC": tl.int32 if dtype == "i8" else tl.float32, "KH": 3, "KW": 3}
    constants |= {"x_col": 1, "DIRECT": direct, "WIDEN": False}
    constants |= {"N": pattern.n, "M": pattern.m, "BITS": pattern.index_bits}
    code = pattern.n * pattern.index_bits
    constants |= {"MP": 1 << pattern.index_bits, "WORD": 32 if code and 32 % code == 0 else 0, **config.kwargs}
    given = {name: value for name, value in constants.items() if name in kernel.arg_names}
    kinds = {name: "constexpr" if name in given else _kind(name, dtype) for name in kernel.arg_names}
    kinds |= {"parts": f"*{_OUT[dtype]}"} if direct else {}
    pointers = tuple(name for name, kind in kinds.items() if kind.startswith("*"))
    whole = tuple(
        name
        for name in ("groups", "groups_a_part", "x_row", "depth", "channels", "outs", "x_pixel", "y_pixel")
        if kinds.get(name) == "i32"
    )
    tile = "x".join(str(config.kwargs[key]) for key in ("BLOCK_OUT", "BLOCK_ROWS", "BLOCK_K"))
    tile += f" {config.num_warps}w {config.num_stages}s{' direct' if direct else ''}"
    about = (str(pattern), dtype, kinds, given, pointers + whole, tile, config.num_warps, config.num_stages)
    return Case(kernel, *about, multiplies=True)


def _kind(name: str, dtype: str) -> str:
    kinds = {"x": _IN.get(dtype, dtype), "values": _IN.get(dtype, dtype), "bias": _OUT[dtype], "y": _OUT[dtype]}
    kinds |= {"positions": "u8", "parts": "i32" if dtype == "i8" else "fp32"}
    return f"*{kinds[name]}" if name in kinds else "i32"


def _storage(pattern: NMPattern, dtype: str) -> Iterator[Case]:
    from nmbench.kernels.triton import compress, decompress
    from nmbench.kernels.triton.expand import block_of

    n, m, bits = pattern.n, pattern.m, pattern.index_bits
    word, same = f"*i{8 * _BYTES[dtype]}", {"N": n, "M": m, "BITS": bits}
    pointers = {"weight": word, "values": word, "positions": "*u8", "first_wrong": "*i32"}
    modes = [compress.COLUMNS, *([compress.VECTOR] if m & (m - 1) == 0 else [])] if compress.packs(pattern) else []
    magnitude = -1 if dtype == "i8" else (1 << (8 * _BYTES[dtype] - 1)) - 1
    for mode in modes:
        groups = compress.groups_of_a_tile(mode, pattern)
        constants = {**same, "MAGNITUDE": magnitude, "MODE": mode, "GROUPS": groups, "CLEAN": compress.CLEAN}
        kernel = compress.compress_kernel
        kinds = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names}
        yield Case(kernel, str(pattern), dtype, kinds, constants, (*pointers, "elements", "groups"), mode)
    code = n * bits
    for rows in (1, 2):  # one row, as of axis="kernel", and several
        block_rows, block_k = decompress.tile_of(rows)
        constants = {**same, "MP": block_of(m), "WORD": 32 if code and 32 % code == 0 else 0}
        constants |= {"BLOCK_ROWS": block_rows, "BLOCK_K": block_k}
        kernel = decompress.decompress_kernel
        given = {name: kind for name, kind in pointers.items() if name in kernel.arg_names}
        kinds = {name: "constexpr" if name in constants else given.get(name, "i32") for name in kernel.arg_names}
        # a taps of 1 is a constant to the launcher, and the columns then lie side by side
        kinds, constants = {**kinds, "taps": "constexpr"}, {**constants, "taps": 1}
        whole = ("width", "out_step", "groups")
        yield Case(kernel, str(pattern), dtype, kinds, constants, (*given, *whole), f"{block_rows}x{block_k}")


def _reduce(dtype: str) -> Case:
    import triton.language as tl

    from nmbench.kernels.triton.split_k import reduce_kernel

    constants = {"HAS_BIAS": True, "ACC": tl.int32 if dtype == "i8" else tl.float32, "BLOCK": 256}
    kinds = {name: "constexpr" if name in constants else _kind(name, dtype) for name in reduce_kernel.arg_names}
    return Case(reduce_kernel, "-", dtype, kinds, constants, ("parts", "bias", "y", "outs"))


def _update(pattern: NMPattern, dtype: str) -> Iterator[Case]:
    import triton.language as tl

    from nmbench.sparsity.fast import triton_mask as mask

    bits = 8 * _BYTES[dtype]
    power = pattern.m & (pattern.m - 1) == 0
    modes = [mask.LOOP] if pattern.m > 16 else [mask.COLUMNS, *([mask.VECTOR] if power else [])]
    for mode in modes:
        same = {"N": pattern.n, "M": pattern.m, "MODE": mode, "MAGNITUDE": (1 << (bits - 1)) - 1}
        same |= {"GROUPS": mask.groups_of_a_tile(mode, pattern.m)}
        more = {"WORD": {16: tl.int16, 32: tl.int32, 64: tl.int64}[bits], "COUNT": True, "HAS_OUT": True}
        tables = {"rows": "*i64", "pieces": "*i32", "out": f"*i{bits}", "flips": "*i64"}
        numbers = {"weight": f"*i{bits}", "out": f"*i{bits}", "size": "i32", "inner": "i32", "groups": "i32"}
        numbers |= {"count": "i32"}
        for kernel, given, constants in (
            (mask.update_kernel, tables, {**same, **more}),
            (mask.masked_kernel, numbers, same),
        ):
            kinds = {name: "constexpr" if name in constants else given[name] for name in kernel.arg_names}
            whole = tuple(name for name in given if name not in ("size", "inner"))
            yield Case(kernel, str(pattern), dtype, kinds, constants, whole, mode)


def _decay(dtype: str) -> Iterator[Case]:
    import triton.language as tl

    from nmbench.sparsity.fast.triton_decay import TILE, decay_kernel

    types = {"fp16": tl.float16, "bf16": tl.bfloat16, "fp32": tl.float32, "fp64": tl.float64}
    for aligned in (True, False):
        total = tl.float64 if dtype == "fp64" else tl.float32
        constants = {"TYPE": types[dtype], "SUM": total, "ALIGNED": aligned, "TILE": TILE}
        kinds = {"rows": "*i64", "pieces": "*i32", **dict.fromkeys(constants, "constexpr")}
        words = "aligned" if aligned else "any address"
        yield Case(decay_kernel, "-", dtype, kinds, constants, ("rows", "pieces"), words)
