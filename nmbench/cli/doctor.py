"""`nmbench doctor`: what is installed here, what works, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import typer

from nmbench._util.machine import cpu_name, gpus, versions
from nmbench._util.paths import cache_dir
from nmbench.cli.common import Plugins

if TYPE_CHECKING:
    from nmbench.plan.catalogue import Catalogue
    from nmbench.plan.declarations import Plugin

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
    from nmbench.plan.catalogue import catalogue

    known = catalogue(plugins)
    for ok, line in _diagnoses(known):
        problems += not ok
        typer.echo(f"{'engine' if ok else 'faulty':<11} {line}")
    every: list[Plugin[Any]] = [*known.tasks.values(), *known.duplicates, *known.methods.values()]
    for plugin in every:
        if not plugin.usable:
            problems += 1
            typer.echo(f"{plugin.status:<11} {plugin.name} ({plugin.distribution}): {plugin.reason}")
    for line in _kernels():
        problems += 1
        typer.echo(f"{'unusable':<11} {line}")
    ready = [p.name for p in known.tasks.values() if p.usable]
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


def _diagnoses(known: Catalogue) -> list[tuple[bool, str]]:
    """(well, line) of what the tasks say of their engines; tasks that say the same share a line."""
    from nmbench.plan.catalogue import diagnoses

    asked = [task for task in known.tasks.values() if task.declaration and task.declaration.diagnoses]
    names: dict[tuple[bool, str], list[str]] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for task, lines in zip(asked, pool.map(diagnoses, asked), strict=True):
            for line in lines:
                names.setdefault(line, []).append(task.name)
    return [(ok, f"{', '.join(tasks)}: {text}") for (ok, text), tasks in names.items()]
