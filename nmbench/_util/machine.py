"""What a result depends on besides its cell: versions, hardware, commit. No host names, no user names, no paths."""

import importlib.metadata
import itertools
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


def cores() -> int:
    """Cores that this process may use: those of its affinity, or fewer where Slurm gave it fewer."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    return min(own, int(given)) if given.isdecimal() and int(given) else own


def job_nodes() -> list[str]:
    """Names of the machines of the Slurm job that this process is in, its own first; none where that is one alone."""
    if int(os.environ.get("SLURM_JOB_NUM_NODES") or 1) < 2:
        return []
    command = ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.split()


def gpus() -> list[dict[str, str]]:
    """[{index, name, driver}] of the visible NVIDIA GPUs, asked without torch; empty if there are none.

    index: what CUDA_VISIBLE_DEVICES calls it, and in its order: a number, a UUID (or how it begins), a MIG device.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return []
    lines = _nvidia("--query-gpu=index,name,driver_version,uuid", "--format=csv,noheader")
    rows = [[part.strip() for part in line.split(",")] for line in lines if line.count(",") >= 2]
    found = [dict(zip(("index", "name", "driver", "uuid"), row, strict=False)) for row in rows]
    if visible is None:
        return [_without_uuid(gpu) for gpu in found]
    if "MIG-" in visible:
        found += _slices(found)
    chosen = [(token, _named(token, found)) for token in map(str.strip, visible.split(","))]
    # as CUDA does: behind a name that it does not know it looks at none
    known = itertools.takewhile(lambda it: it[1] is not None, chosen)
    return [_without_uuid(gpu) | {"index": token} for token, gpu in known if gpu is not None]


def _named(token: str, found: list[dict[str, str]]) -> dict[str, str] | None:
    if token.isdecimal():
        return next((gpu for gpu in found if gpu["index"] == token), None)
    return next((gpu for gpu in found if token and gpu.get("uuid", "").startswith(token)), None)


def _slices(cards: list[dict[str, str]]) -> list[dict[str, str]]:
    """MIG devices, each named after its card and profile ("A100 MIG 1g.5gb")."""
    found: list[dict[str, str]] = []
    card: dict[str, str] = {}
    for line in _nvidia("-L"):
        uuid = line.partition("(UUID: ")[2].partition(")")[0].strip()
        if line.startswith("GPU "):
            card = next((one for one in cards if one.get("uuid") == uuid), {})
        elif uuid.startswith("MIG-"):
            profile = " ".join(line.split()[:2])
            found.append(card | {"index": uuid, "uuid": uuid, "name": f"{card.get('name', '')} {profile}".strip()})
    return [{"driver": "", **one} for one in found]


def _without_uuid(gpu: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in gpu.items() if key != "uuid"}


def _nvidia(*arguments: str) -> list[str]:
    """Lines that nvidia-smi prints; none where it is not there or fails."""
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if done.returncode else done.stdout.splitlines()


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
