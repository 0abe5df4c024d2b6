"""Every kernel compiles for sm_80 and sm_90 down to a cubin, and its 16-bit forms reach the tensor cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPT = """
from compile_check import check
for row in check({patterns}, {dtypes}):
    assert row.ok, row
    print(row.case.kernel.__name__, row.case.tile, row.target, row.case.dtype, row.spills, row.load_bits, sep=",")
"""


def compiled(patterns: list[str], dtypes: list[str]) -> list[list[str]]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TOOLS), *sys.path])
    script = SCRIPT.format(patterns=patterns, dtypes=dtypes)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.split(",") for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a slow machine that does other things too
@pytest.mark.parametrize(
    ("patterns", "dtypes"), [(["2:4"], ["fp16", "bf16", "fp32", "i8", "fp8"]), (["1:16", "4:8", "3:5"], ["bf16"])]
)
def test_kernels_compile_without_a_gpu(patterns: list[str], dtypes: list[str]) -> None:
    rows = compiled(patterns, dtypes)
    assert {row[0] for row in rows} == {
        *("matmul_kernel", "split_k_kernel", "conv_kernel", "reduce_kernel", "update_kernel", "decay_kernel"),
        *("compress_kernel", "decompress_kernel", "masked_kernel"),
    }
    assert {row[2] for row in rows} == {"80", "90"}
    assert {row[0] for row in rows if row[1] == "nothing aligned"} == {"matmul_kernel", "split_k_kernel", "conv_kernel"}
    if "1:16" in patterns:
        assert any(row[1].startswith("16x16x512") for row in rows), "the longest tile too"
    # what is read in one run goes 16 bytes at a time
    assert all(row[5] == "128" for row in rows if row[1] in ("vector", "aligned"))
    assert all(int(row[4]) <= 8 for row in rows if row[1] in ("vector", "aligned"))
