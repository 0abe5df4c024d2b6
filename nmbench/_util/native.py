"""C code that is compiled on first use, and kept in the user's cache folder.

A shared object is named by a hash of the source, the compiler, the flags and the processor, since it is built for the
very processor (-march=native).
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

from nmbench._util.paths import cache_dir

_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared", "-std=gnu11")


class NotCompiled(Exception):
    """Why, in words; whoever asked has code without C that gives the same."""


def compiled(source: Path, flags: Sequence[str] = ()) -> ctypes.CDLL:
    """The functions of a C file. flags: besides those for speed.

    Raises NotCompiled: NMBENCH_NATIVE=0 is set, no compiler is there, it fails, or its result cannot be kept or loaded.
    """
    if os.environ.get("NMBENCH_NATIVE") == "0":
        raise NotCompiled("switched off by NMBENCH_NATIVE=0")
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise NotCompiled("no C compiler was found")
    try:
        return ctypes.CDLL(str(_shared_object(source, compiler, [*_FLAGS, *flags])))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder to keep it in
        raise NotCompiled(str(error)) from error


def _shared_object(source: Path, compiler: str, flags: list[str]) -> Path:
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    about = [source.read_bytes(), version, repr(flags).encode(), _processor().encode()]
    name = hashlib.sha256(b"\0".join(about)).hexdigest()[:20]
    folder = cache_dir() / "native"
    target = folder / f"{source.stem}-{name}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / target.name
        command = [compiler, *flags, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotCompiled(f"{compiler} failed: {(done.stderr.strip().splitlines() or ['no message'])[0]}")
        made.replace(target)  # whole or not at all, also when several processes build at once
    return target


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
