"""Compile every kernel for a GPU that is not here, so that a compile error cannot hide where none is.

check         compile the matrix of kernels, patterns, dtypes and targets; one row each
Compiled      a row
main          `python -m nmbench.kernels.nm_triton.compile_check`: prints the rows, exit status 1 on a failure

Needs triton with its own ptxas, and no TRITON_INTERPRET.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmbench.sparsity import NMPattern

__all__ = ["Compiled", "check", "main"]

PATTERNS = ("2:4", "1:4", "1:16", "4:8", "3:5", "1:1")
TARGETS = (80, 90)
_TYPES = {"fp16": "fp16", "bf16": "bf16", "fp32": "fp32", "i8": "i32"}  # input -> output
_TENSOR_CORE = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async)\S*\.(f16|bf16|s8)\b")
_TILE = {"BLOCK_OUT": 64, "BLOCK_ROWS": 64, "BLOCK_K": 64}


@dataclass(frozen=True)
class Compiled:
    """One kernel compiled for one target.

    tensor_core: the first tensor-core instruction in the PTX, "" if none (float32 is computed exactly, without them).
    registers, spills: of a thread, and its spilled bytes, as ptxas counts them; -1 where it does not say.
    """

    kernel: str
    pattern: str
    dtype: str
    target: int
    tensor_core: str
    registers: int
    spills: int

    @property
    def ok(self) -> bool:
        """16-bit and int8 kernels that multiply have to reach the tensor cores."""
        return self.kernel == "reduce_kernel" or self.dtype == "fp32" or bool(self.tensor_core)


def check(
    patterns: Sequence[str] = PATTERNS, dtypes: Sequence[str] = tuple(_TYPES), targets: Sequence[int] = TARGETS
) -> Iterator[Compiled]:
    """Each kernel for each pattern, dtype ("fp16", "bf16", "fp32", "i8") and target (80 is sm_80).

    Raises RuntimeError under TRITON_INTERPRET=1, and what Triton raises where a kernel does not compile.
    """
    from nmbench.kernels.nm_triton.conv import conv_kernel
    from nmbench.kernels.nm_triton.expand import interpreted
    from nmbench.kernels.nm_triton.matmul import matmul_kernel
    from nmbench.kernels.nm_triton.split_k import reduce_kernel, split_k_kernel

    if interpreted():
        raise RuntimeError("the compile check needs a process without TRITON_INTERPRET")
    for target in targets:
        for dtype in dtypes:
            yield _compile(reduce_kernel, None, dtype, target, {"BLOCK": 256})
            for text in patterns:
                for kernel in (matmul_kernel.fn, split_k_kernel.fn, conv_kernel.fn):
                    rows = 16 if kernel is split_k_kernel.fn else 64
                    yield _compile(kernel, NMPattern.parse(text), dtype, target, {**_TILE, "BLOCK_ROWS": rows})


def _compile(kernel: Any, pattern: NMPattern | None, dtype: str, target: int, tile: dict[str, int]) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = _constants(kernel, pattern, dtype, tile)
    kinds = {name: "constexpr" if name in constants else _kind(name, dtype) for name in kernel.arg_names}
    # as the launcher finds them on aligned tensors: pointers in multiples of 16 bytes
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(kinds.values()) if kind.startswith("*")}
    source = ASTSource(kernel, kinds, constexprs=constants, attrs=aligned)
    options = {"num_warps": 4, "num_stages": 3}
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    found = _TENSOR_CORE.search(compiled.asm["ptx"])
    registers, spills = _resources(compiled.asm["cubin"])
    name = kernel.__name__
    return Compiled(name, str(pattern or "-"), dtype, target, found[0] if found else "", registers, spills)


def _constants(kernel: Any, pattern: NMPattern | None, dtype: str, tile: dict[str, int]) -> dict[str, Any]:
    import triton.language as tl

    values = {"HAS_BIAS": True, "ACC": tl.int32 if dtype == "i8" else tl.float32, "KH": 3, "KW": 3, **tile}
    values |= {"x_col": 1, "WIDEN": False}
    if pattern is not None:
        values |= {"N": pattern.n, "M": pattern.m, "BITS": pattern.index_bits, "MP": 1 << pattern.index_bits}
    return {name: values[name] for name in kernel.arg_names if name in values}


def _kind(name: str, dtype: str) -> str:
    kinds = {"x": dtype, "values": dtype, "bias": _TYPES[dtype], "y": _TYPES[dtype], "positions": "u8"}
    kinds["parts"] = "i32" if dtype == "i8" else "fp32"
    return f"*{kinds[name]}" if name in kinds else "i32"


def _resources(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of local memory) from cuobjdump, which comes with triton; (-1, -1) where it is missing."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        return -1, -1
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=False).stdout
    found = re.search(r"REG:(\d+)\s+STACK:(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def main() -> int:
    """Print one line a kernel; 1 if a 16-bit or int8 kernel misses the tensor cores, else 0."""
    bad = 0
    for row in check():
        bad += not row.ok
        cores = row.tensor_core or "no tensor core"
        words = f"sm_{row.target} {row.dtype:>4} {row.pattern:>5} {row.kernel:<15} {row.registers:>4} registers"
        print(f"{words} {row.spills:>5} bytes of stack  {cores}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
