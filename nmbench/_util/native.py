"""C code that is compiled on first use, and kept in the user's cache folder.

A shared object is named by a hash of the source, the compiler, the flags and the processor, since it is built for the
very processor (-march=native). Beside it lies its checksum, without which it is built again: a file that was cut short
would end the process that loads it.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nmbench._util.files import write_text
from nmbench._util.paths import cache_dir

_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-std=gnu11")
_LIMIT_S = 300


class NotCompiled(Exception):
    """Why, in words; whoever asked has code without C that gives the same, or does without."""


def compiled(source: Path, flags: Sequence[str] = ()) -> ctypes.CDLL:
    """The functions of a C file. flags: besides those for speed.

    -fopenmp is given to the compiler alone: what it calls is found in the library that torch has loaded, so that both
    share one pool of threads.
    Raises NotCompiled: NMBENCH_NATIVE=0 is set, no compiler is there, it fails, or its result cannot be kept or loaded.
    """
    if os.environ.get("NMBENCH_NATIVE") == "0":
        raise NotCompiled("switched off by NMBENCH_NATIVE=0")
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise NotCompiled("no C compiler was found")
    try:
        return ctypes.CDLL(str(_shared_object(source, compiler, [*_FLAGS, *flags])))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: no home folder to keep it in
        raise NotCompiled(str(error)) from error


def _shared_object(source: Path, compiler: str, flags: list[str]) -> Path:
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    about = [source.read_bytes(), version, repr(flags).encode(), _processor().encode()]
    name = hashlib.sha256(b"\0".join(about)).hexdigest()[:20]
    folder = cache_dir() / "native"
    target = folder / f"{source.stem}-{name}.so"
    vouched = target.with_suffix(".sha256")
    if _whole(target, vouched):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made, part = Path(scratch) / target.name, Path(scratch) / "part.o"
        _call([compiler, *flags, "-c", str(source), "-o", str(part)])
        _call([compiler, "-shared", str(part), "-o", str(made)])
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        # whole or not at all, also when several processes build at once: equal sources give equal objects
        made.replace(target)
        write_text(vouched, digest)
    return target


def _whole(target: Path, vouched: Path) -> bool:
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == vouched.read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    if done.returncode:
        raise NotCompiled(f"{command[0]} failed: {(done.stderr.strip().splitlines() or ['no message'])[0]}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
