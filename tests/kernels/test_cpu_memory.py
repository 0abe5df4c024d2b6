"""The C code of the backend for processors under two sanitizers, in buffers of exactly the size it is told."""

import shutil
import subprocess
from pathlib import Path

import pytest

import nmbench.kernels.cpu

FOLDER = Path(nmbench.kernels.cpu.__file__).parent
FLAGS = ["-O1", "-march=native", "-std=gnu11", "-fopenmp", "-Wall", "-Wextra", "-Wno-psabi", "-Werror"]
# its stand-in for AVX-512, so that these forms run on any processor
AVX512 = (
    "-march=x86-64",
    f"-I{Path(__file__).with_name('avx512')}",
    *("-D__AVX512F__=1", "-D__AVX512BF16__=1", "-D__AVX2__=1"),
)
SANITIZERS = "-fsanitize=address,undefined"


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    found = shutil.which("gcc")
    folder = tmp_path_factory.mktemp("sanitized")
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    command = [found or "gcc", SANITIZERS, "-fopenmp", str(folder / "empty.c"), "-o", str(folder / "empty")]
    if found is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("there is no gcc with sanitizers and OpenMP here")
    return found


@pytest.mark.parametrize(
    ("n", "m", "more"),
    [
        (2, 4, ()),
        (3, 16, ()),
        (2, 4, ("-DNM_PORTABLE",)),
        (2, 4, AVX512),
        (3, 16, AVX512),
        (2, 4, ("-DNM_ROWS",)),
        (2, 4, ("-DNM_ROWS", *AVX512)),
        (1, 16, ("-DNM_ROWS", *AVX512)),
        (5, 7, ("-DNM_ROWS",)),
        (1, 32, ("-DNM_ROWS", "-DNM_PORTABLE")),
    ],
)
def test_it_stays_inside_its_buffers_and_is_right(compiler, tmp_path, n, m, more):
    source = Path(__file__).with_name("lanes_check.c")
    program = tmp_path / "check"
    build = [compiler, *FLAGS, SANITIZERS, "-fno-sanitize-recover", f"-DNM_N={n}", f"-DNM_M={m}", *more, f"-I{FOLDER}"]
    subprocess.run([*build, str(source), "-o", str(program), "-lm"], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 wrong\n")
