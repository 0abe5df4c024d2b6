"""`nmbench doctor`: what is installed here, what works, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmbench._util.errors import first_line
from nmbench._util.groups import grouped
from nmbench._util.machine import cpu_name, gpus, versions
from nmbench._util.paths import cache_dir
from nmbench.cli.common import EngineOptions, Plugins, Results

if TYPE_CHECKING:
    from nmbench.plan.catalogue import Catalogue
    from nmbench.plan.declarations import Plugin

_Lines = list[tuple[str, str]]  # mark, text

_OPTIONAL = {
    "torchvision": "classification, detection, segmentation and optical flow: pip install 'nmbench[all]'",
    "pandas": "reports: pip install 'nmbench[report]'",
}


def doctor(
    plugins: Plugins = None,
    on: Annotated[str | None, typer.Option(help="Instead: send one small job to this engine, slurm or ray.")] = None,
    engine_options: EngineOptions = None,
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="With --on: auto, cpu or cuda, as `run` would ask for.")] = "auto",
    probe: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Check this machine and installation, or with --on what the nodes of an engine are like.

    Example: nmbench doctor --on slurm --engine partition=gpu
    """
    from nmbench.plan.catalogue import catalogue

    if probe is not None:
        from nmbench.running.probe import answer

        answer(probe)
        return
    if on is not None:
        _remote(on, engine_options or [], results, device)
        return
    _machine()
    known = catalogue(plugins)
    every: list[Plugin[Any]] = [*known.tasks.values(), *known.duplicates, *known.methods.values()]
    engines, problems = _diagnoses(known)
    problems += [(p.status, f"{p.name} ({p.distribution}): {p.reason}") for p in every if not p.usable]
    problems += [("unusable", line) for line in _kernels()]
    for mark, line in [*engines, *problems]:
        typer.echo(f"{mark:<11} {line}")
    ready = [task.name for task in known.tasks.values() if task.usable]
    typer.echo(f"tasks       {', '.join(ready) or 'none'} ready; {len(problems)} plugins with a problem")
    if not ready:
        raise typer.Exit(1)


def _remote(on: str, typed: list[str], results: Path, device: str) -> None:
    """One probe; exit status 1 where cells would fail there, or not be comparable."""
    from nmbench.cli.fleet import number
    from nmbench.engines import engine
    from nmbench.engines.engine import Needs
    from nmbench.engines.options import merged
    from nmbench.records.store import Store
    from nmbench.running.probe import ask

    options = {key: value for key, value in merged(on, {}, typed).items() if key not in ("settle", "poll")}
    cpus = int(number("cpus-per-task", options.get("cpus-per-task"), 1))
    folder = Store(results, "doctor").work / secrets.token_hex(4)
    found = engine(on, options)
    gpus = int(device == "cuda" or (device == "auto" and found.accelerated))
    typer.echo(f"one job goes to {on}; its answer is waited for, 15 minutes at most", err=True)
    try:
        findings = ask(found, folder, Needs(cpus=cpus, gpus=gpus, minutes=10))
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)
    lines = findings.lines()
    for well, line in lines:
        typer.echo(line if well else f"{line}   <- cells would not run as they do here")
    if not all(well for well, _ in lines):
        raise typer.Exit(1)


def _machine() -> None:
    typer.echo(f"python      {platform.python_version()} on {platform.system()} {platform.machine()}")
    typer.echo(f"processor   {cpu_name()}, {os.cpu_count()} cores")
    cards = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in gpus())
    typer.echo(f"gpu         {cards or 'none visible'}")
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


def _diagnoses(known: Catalogue) -> tuple[_Lines, _Lines]:
    """What the tasks say of their engines, well and faulty; tasks that say the same share a line."""
    from nmbench.plan.catalogue import diagnoses

    asked = [task for task in known.tasks.values() if task.declaration and task.declaration.diagnoses]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        answers = zip(asked, pool.map(diagnoses, asked), strict=True)
        names = grouped((line, task.name) for task, lines in answers for line in lines)
    said = {line: f"{', '.join(tasks)}: {line[1]}" for line, tasks in names.items()}
    return [("engine", said[line]) for line in said if line[0]], [
        ("faulty", said[line]) for line in said if not line[0]
    ]


def _kernels() -> list[str]:
    """Backends of the sparse products that cannot be used, and why; one line if not even torch can be imported."""
    try:
        from nmbench.kernels.registry import backends
    except Exception as error:
        return [f"kernels: {first_line(error)}"]
    found = backends().items()
    return [f"kernel backend {name} ({one.version}): {one.reason}" for name, one in found if one.backend is None]
