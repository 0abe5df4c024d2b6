"""Compile every kernel for a GPU that is not here, so that a compile error cannot hide where none is.

check         compile kernels for patterns, dtypes and targets; one row each
Compiled      a row: what the code uses
main          `python tools/compile_check.py [--all]`: prints the rows, exit status 1 on a failure

Needs triton with its own ptxas, and no TRITON_INTERPRET. By default one tile size a kernel; --all takes every
configuration that the autotuner may choose (a quarter of an hour and more).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compile_cases import DTYPES, Case, cases

__all__ = ["PATTERNS", "Compiled", "check", "main"]

PATTERNS = ("2:4", "1:4", "1:16", "4:8", "3:5", "1:1")
TARGETS = (80, 90)
_TENSOR_CORE = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async)\S*\.(f16|bf16|s8|e4m3)\b")
_GLOBAL = re.compile(r"\b(ld|st)\.global\S*?(?:\.v(\d))?\.b(\d+)")
_ASYNC = re.compile(r"\bcp\.async\.\S*\s+\[[^]]*\],\s*\[[^]]*\],\s*(0x[0-9a-f]+|\d+)")


@dataclass(frozen=True)
class Compiled:
    """One case compiled for one target.

    tensor_core: the first tensor-core instruction in the PTX, "" if none (float32 is computed exactly, without them).
    registers, spills: of a thread, and its bytes of local memory, as cuobjdump counts them; -1 where it is missing.
    load_bits, store_bits: the widest access to global memory that a thread makes.
    shared: bytes of shared memory of a program.
    """

    case: Case
    target: int
    tensor_core: str
    registers: int
    spills: int
    load_bits: int
    store_bits: int
    shared: int

    @property
    def ok(self) -> bool:
        """16-bit and 8-bit kernels that multiply have to reach the tensor cores."""
        return not self.case.multiplies or self.case.dtype == "fp32" or bool(self.tensor_core)

    def __str__(self) -> str:
        """One line of the table."""
        cores = self.tensor_core or ("no tensor core" if self.case.multiplies else "")
        use = f"{self.registers:>4} registers {self.spills:>5} bytes of stack {self.shared:>7} shared"
        return (
            f"sm_{self.target} {self.case} {use}  loads {self.load_bits:>3} stores {self.store_bits:>3} bits  {cores}"
        )


def check(
    patterns: Sequence[str] = PATTERNS,
    dtypes: Sequence[str] = DTYPES,
    targets: Sequence[int] = TARGETS,
    *,
    every: bool = False,
) -> Iterator[Compiled]:
    """Each kernel for each pattern, dtype ("fp16", "bf16", "fp32", "i8", "fp8") and target (80 is sm_80).

    every: all configurations of the autotuner instead of one tile size.
    Raises RuntimeError under TRITON_INTERPRET=1, and what Triton raises where a kernel does not compile.
    """
    from nmbench.kernels.triton.expand import interpreted

    if interpreted():
        raise RuntimeError("the compile check needs a process without TRITON_INTERPRET")
    for target in targets:
        for case in cases(patterns, dtypes, every=every):
            if case.dtype != "fp8" or target >= 89:
                yield compiled(case, target)


def compiled(case: Case, target: int) -> Compiled:
    """Compile one case. Raises what Triton raises."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    # as the launcher finds them on aligned tensors of whole sizes: pointers and divisible integers in multiples of 16
    named = {name: i for i, name in enumerate(case.kinds)}
    aligned = {(named[name],): [["tt.divisibility", 16]] for name in case.aligned}
    source = ASTSource(case.kernel, dict(case.kinds), constexprs=dict(case.constants), attrs=aligned)
    options = {"num_warps": case.warps, "num_stages": case.stages}
    made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    found = _TENSOR_CORE.search(made.asm["ptx"])
    widths = {"ld": 0, "st": 0}
    for which, vector, width in _GLOBAL.findall(made.asm["ptx"]):
        widths[which] = max(widths[which], int(vector or 1) * int(width))
    for size in _ASYNC.findall(made.asm["ptx"]):
        widths["ld"] = max(widths["ld"], 8 * int(size, 0))
    use = _resources(made.asm["cubin"])
    return Compiled(case, target, found[0] if found else "", *use, widths["ld"], widths["st"], made.metadata.shared)


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
    """Print one line a kernel; 1 if a 16-bit or 8-bit kernel misses the tensor cores, else 0."""
    bad = 0
    for row in check(every="--all" in sys.argv[1:]):
        bad += not row.ok
        print(row, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
