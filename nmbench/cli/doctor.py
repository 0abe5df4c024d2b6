"""`nmbench doctor`: what is installed here, what works, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil

import typer

from nmbench.cache import cache_dir
from nmbench.cli.common import Plugins
from nmbench.environment import cpu_name, gpus, versions

_OPTIONAL = {
    "torchvision": "classification: pip install 'nmbench[classification]'",
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
    from nmbench.registry import catalogue

    known = catalogue(plugins)
    for plugin in [*known.tasks.values(), *known.duplicates, *known.methods.values()]:
        if plugin.status == "ok":
            continue
        problems += 1
        typer.echo(f"{plugin.status:<11} {plugin.name} ({plugin.distribution}): {plugin.reason}")
    ready = [p.name for p in known.tasks.values() if p.status == "ok"]
    typer.echo(f"tasks       {', '.join(ready) or 'none'} ready; {problems} plugins with a problem")
    if not ready:
        raise typer.Exit(1)
