"""`nmbench doctor`: what is installed here, what works, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

import typer

from nmbench._util.machine import cpu_name, gpus, versions
from nmbench._util.paths import cache_dir
from nmbench.cli.common import Plugins

_OPTIONAL = {
    "torchvision": "classification, detection, segmentation and optical flow: pip install 'nmbench[all]'",
    "pandas": "reports: pip install 'nmbench[report]'",
}


def doctor(plugins: Plugins = None) -> None:
    """Check this machine and installation.

    Example: nmbench doctor
    """
    problems = 0
    typer.echo(f"python      {platform.python_version()} on {platform.system()} {platform.machine()}")
    typer.echo(f"processor   {cpu_name()}, {os.cpu_count()} cores")
    found = gpus()
    typer.echo("gpu         " + (", ".join(f"{g['name']} (driver {g['driver']})" for g in found) or "none visible"))
    installed = versions()
    typer.echo("versions    " + ", ".join(f"{name} {version}" for name, version in installed.items()))
    for name, what in _OPTIONAL.items():
        if name not in installed:
            typer.echo(f"missing     {name}, for {what}")
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    fast = f"compiled with {os.path.basename(compiler)}" if compiler else "no C compiler: slower torch code is used"
    if os.environ.get("NMBENCH_NATIVE") == "0":
        fast = "switched off by NMBENCH_NATIVE=0"
    typer.echo(f"masks       {fast}; cache in {cache_dir()}")
    typer.echo(f"engines     {_mmdet(installed)}; {_fairseq(installed)}")
    from nmbench.plan.catalogue import catalogue

    known = catalogue(plugins)
    for plugin in [*known.tasks.values(), *known.duplicates, *known.methods.values()]:
        if plugin.status == "ok":
            continue
        problems += 1
        typer.echo(f"{plugin.status:<11} {plugin.name} ({plugin.distribution}): {plugin.reason}")
    for line in _kernels():
        problems += 1
        typer.echo(f"{'unusable':<11} {line}")
    ready = [p.name for p in known.tasks.values() if p.status == "ok"]
    typer.echo(f"tasks       {', '.join(ready) or 'none'} ready; {problems} plugins with a problem")
    if not ready:
        raise typer.Exit(1)


def _kernels() -> list[str]:
    """Backends of the sparse products that cannot be used, and why; one line if not even torch can be imported."""
    from nmbench.worker.failures import first_lines

    try:
        from nmbench.kernels.registry import backends
    except Exception as error:
        return [f"kernels: {first_lines(error)}"]
    found = backends().items()
    return [f"kernel backend {name} ({one.version}): {one.reason}" for name, one in found if one.backend is None]


def _mmdet(installed: dict[str, str]) -> str:
    """mmdet and where its compiled operators come from."""
    if "mmdet" not in installed:
        return "no mmdet (detection, segmentation)"
    if "mmcv" in installed:
        operators = f"operators of mmcv {installed['mmcv']}"
    elif "mmcv-lite" in installed:
        operators = f"mmcv-lite {installed['mmcv-lite']}, operators of torchvision"
    else:
        operators = "but neither mmcv nor mmcv-lite"
    return f"mmdet {installed['mmdet']} ({operators})"


def _fairseq(installed: dict[str, str]) -> str:
    """fairseq and whether its data utilities were compiled; nothing of it is imported."""
    if "fairseq" not in installed:
        return "no fairseq (translation)"
    package = importlib.util.find_spec("fairseq")
    folders = [Path(folder) for folder in (package.submodule_search_locations if package else None) or []]
    compiled = any(True for folder in folders for _ in folder.glob("data/data_utils_fast*.so"))
    return f"fairseq {installed['fairseq']} ({'with' if compiled else 'WITHOUT its'} compiled data utilities)"
