"""`nmbench list`: the tasks and methods that are installed, and what is wrong with those that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmbench.cli.common import Plugins

if TYPE_CHECKING:
    from rich.table import Table

    from nmbench.plan.declarations import MethodPlugin, Plugin, TaskPlugin


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left")


def _state(plugin: Plugin[Any]) -> str:
    return str(plugin.status) if plugin.usable else f"{plugin.status}: {plugin.reason}"


def _tasks(plugins: list[TaskPlugin]) -> Table:
    table = _table("Tasks", "task", "from", "status", "primary metric", "models", "scales")
    for plugin in plugins:
        told = plugin.declaration
        known = ("", "", "")
        if told is not None:
            metric = f"{told.metrics[0].name} {told.metrics[0].unit}".strip()
            known = metric, ", ".join(told.models) + (", ..." if told.open_models else ""), ", ".join(told.scales)
        table.add_row(plugin.name, plugin.origin, _state(plugin), *known)
    return table


def _methods(plugins: list[MethodPlugin]) -> Table:
    table = _table("Methods", "method", "from", "status", "hyper-parameters", "passes")
    for plugin in plugins:
        told = plugin.declaration
        known = ("", "")
        if told is not None:
            known = ", ".join(f"{k} = {v}" for k, v in told.settings.defaults.items()), str(told.phases)
        table.add_row(plugin.name, plugin.origin, _state(plugin), *known)
    return table


def list_(plugins: Plugins = None) -> None:
    """Show tasks, methods and shipped matrices.

    Example: nmbench list --plugins my_tasks/
    """
    from rich.console import Console

    from nmbench.plan.catalogue import catalogue
    from nmbench.plan.matrix import shipped

    known = catalogue(plugins)
    # no markup: the command that adds an extra is full of square brackets
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=200)
    console.print(_tasks([*known.tasks.values(), *known.duplicates]))
    console.print(_methods(list(known.methods.values())))
    console.print("Matrices:", ", ".join(shipped()))
