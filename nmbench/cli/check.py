"""`nmbench check NAME`: does a task, a method, a pruner or a kernel backend keep the contract's promises?"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmbench._util.errors import UsageError, nearest
from nmbench.cli.common import Plugins

if TYPE_CHECKING:
    from nmbench.plan.catalogue import Catalogue
    from nmbench.plan.declarations import Plugin
    from nmbench.testing import Battery, Outcome

_MARKS = {"passed": "ran", "skipped": "skipped", "expected failure": "expected failure", "failed": "FAILED"}


def check(
    names: Annotated[
        list[str],
        typer.Argument(help="Tasks, methods or backends by name (backend:dense); 'all' is every one that can be used."),
    ],
    plugins: Plugins = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="NMBENCH_DATA", help="Keep the data here; a temporary folder if not."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Tasks at a time, each in a process of its own.")] = 1,
) -> None:
    """Run the conformance battery: for each check, ran, skipped and why, expected failure, or failed and how.

    Exit status 1 if a check failed, 2 if none ran.

    Example: nmbench check mine --plugins my_tasks
    """
    from nmbench.plan.catalogue import catalogue

    known = catalogue(plugins)
    chosen = _all(known) if names == ["all"] else [_known(name, known) for name in dict.fromkeys(names)]
    tasks = [one for one in chosen if one[0] == "task"]
    if workers > 1 and len(chosen) > 1 and tasks:
        rest = [one for one in chosen if one[0] != "task"]
        status = _apart([*([one] for one in tasks), *([rest] if rest else [])], workers, plugins, data)
    else:
        status = _here(chosen, known, data)
    if status:
        raise typer.Exit(status)


def _here(chosen: list[tuple[str, str]], known: Catalogue, data: Path | None) -> int:
    """The exit status of all, one after the other."""
    failed = nothing = False
    for kind, name in chosen:
        battery = _task(name, known, data) if kind == "task" else _method(name) if kind == "method" else _backend(name)
        typer.echo(f"{kind} {name}: {battery.summary}\n")
        failed |= bool(battery.failed)
        nothing |= battery.ran == 0
    return 1 if failed else 2 if nothing else 0


def _apart(groups: list[list[tuple[str, str]]], workers: int, plugins: Path | None, data: Path | None) -> int:
    """The exit status of all, each group in a process of its own; what they say comes in their order."""
    options = [part for flag, path in (("--plugins", plugins), ("--data", data)) if path for part in (flag, str(path))]

    def ask(group: list[tuple[str, str]]) -> subprocess.CompletedProcess[str]:
        names = [f"backend:{name}" if kind == "backend" else name for kind, name in group]
        command = [sys.executable, "-m", "nmbench", "check", *names, *options]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)

    statuses = set()
    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(ask, groups):
            typer.echo(done.stdout, nl=False)
            statuses.add(done.returncode)
    return 0 if statuses == {0} else 2 if statuses <= {0, 2} else 1


def _all(known: Catalogue) -> list[tuple[str, str]]:
    tasks = [("task", name) for name, plugin in known.tasks.items() if plugin.usable]
    methods = [("method", name) for name, plugin in known.methods.items() if plugin.usable]
    return [*methods, *(("backend", name) for name in _backends()), *tasks]


def _backends() -> list[str]:
    """Of nmbench.kernels; only their names, since importing them takes torch."""
    return sorted({point.name for point in entry_points(group="nmbench.kernels")})


def _known(name: str, known: Catalogue) -> tuple[str, str]:
    plugin: Plugin[Any] | None = known.tasks.get(name) or known.methods.get(name)
    backends = _backends()
    if plugin is None and name.removeprefix("backend:") in backends:  # "dense" alone is the method
        return "backend", name.removeprefix("backend:")
    if plugin is None:
        names = {*known.tasks, *known.methods, *backends}
        raise UsageError(f"there is no task, method, pruner or backend {name!r}{nearest(name, names)}")
    kind = "task" if name in known.tasks else "method"
    if not plugin.usable:
        raise UsageError(f"{kind} {name} cannot be checked: {plugin.status}: {plugin.reason}")
    return kind, name


def _told(outcome: Outcome) -> None:
    line = f"{_MARKS[outcome.status]:<17} {outcome.name} ({outcome.seconds:.1f} s)"
    typer.echo(f"{line}\n{'':<17} {outcome.message}" if outcome.message else line)


def _task(name: str, known: Catalogue, data: Path | None) -> Battery:
    from nmbench.plan.describe import load_task
    from nmbench.testing import check_task

    typer.echo(f"task {name}")
    return check_task(load_task(known.tasks[name].reference), _told, data and data / name)


def _method(name: str) -> Battery:
    from nmbench.sparsity import methods, pruning
    from nmbench.testing import check_method, check_pruner

    typer.echo(f"method {name}")
    if name in pruning.names() and name not in methods.names():
        return check_pruner(pruning.load(name), _told)
    return check_method(methods.load(name), _told)


def _backend(name: str) -> Battery:
    from nmbench.kernels import registry
    from nmbench.testing import check_backend

    typer.echo(f"backend {name}")
    try:
        return check_backend(registry.load(name), _told)
    except ValueError as error:
        raise UsageError(str(error)) from error
