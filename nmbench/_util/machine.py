"""What a result depends on besides its cell: versions, hardware, commit. No host names, no user names, no paths."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = (
    *("nmbench", "torch", "torchvision", "numpy", "lightning-fabric", "safetensors", "scikit-learn", "pandas", "scipy"),
    *("triton", "mmengine", "mmcv", "mmcv-lite", "mmdet", "pycocotools", "fairseq", "hydra-core", "sacrebleu"),
    *("sentencepiece", "babel"),
)


def versions() -> dict[str, str]:
    """Distribution -> version, for those that are installed."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor as it calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpus() -> list[dict[str, str]]:
    """[{index, name, driver}] of the visible NVIDIA GPUs, asked without torch; empty if there are none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    query = ["nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") >= 2]
    found = [dict(zip(("index", "name", "driver"), row, strict=False)) for row in rows]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        found = [gpu for gpu in found if gpu["index"] in visible.split(",")]
    return found


def commit() -> tuple[str | None, bool | None]:
    """(git commit of nmbench's sources, whether they are changed), or (None, None) outside a checkout of nmbench."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not git("ls-files", "--error-unmatch", Path(__file__).name):
        return None, None  # installed into somebody else's repository
    head = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/nmbench", ":/tasks", ":/setup.cfg")
    return head, None if changed is None else bool(changed)


def describe(threads: int, code: str = "", device: str = "cpu") -> dict[str, Any]:
    """The `environment` of a record."""
    head, dirty = commit()
    gpu = gpus() if device == "cuda" else []
    return {
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": gpu[0]["name"] if gpu else None,
        "driver": gpu[0]["driver"] if gpu else None,
        "commit": head,
        "dirty": dirty,
        "code": code,
    }
