"""Every kernel compiles for sm_80 and sm_90 down to a cubin, and its 16-bit forms reach the tensor cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
from nmbench.kernels.nm_triton.compile_check import check
for row in check({patterns}, {dtypes}):
    assert row.ok, row
    print(row.kernel, row.target, row.dtype)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patterns", "dtypes"), [(["2:4"], ["fp16", "bf16", "fp32", "i8"]), (["1:16", "4:8", "3:5"], ["bf16"])]
)
def test_kernels_compile_without_a_gpu(patterns: list[str], dtypes: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = SCRIPT.format(patterns=patterns, dtypes=dtypes)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 2 * len(dtypes) * (1 + 3 * len(patterns))
