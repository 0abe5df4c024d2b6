"""`nmbench list`: the tasks and methods that are installed, and what is wrong with those that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nmbench.cli.common import Plugins

if TYPE_CHECKING:
    from rich.table import Table

    from nmbench.plan.catalogue import Plugin


def _tasks(plugins: list[Plugin]) -> Table:
    from rich.table import Table

    table = Table("task", "from", "status", "primary metric", "models", "scales", title="Tasks", title_justify="left")
    for plugin in plugins:
        told = plugin.declaration
        metric = told["metrics"][0] if told.get("metrics") else {"name": "", "unit": ""}
        models = ", ".join(told.get("models", [])) + (", ..." if told.get("open_models") else "")
        state = plugin.status if plugin.status == "ok" else f"{plugin.status}: {plugin.reason}"
        table.add_row(
            plugin.name,
            f"{plugin.distribution} {plugin.version}".strip(),
            state,
            f"{metric['name']} {metric['unit']}".strip(),
            models,
            ", ".join(told.get("scales", {})),
        )
    return table


def _methods(plugins: list[Plugin]) -> Table:
    from rich.table import Table

    table = Table("method", "from", "status", "hyper-parameters", "passes", title="Methods", title_justify="left")
    for plugin in plugins:
        told = plugin.declaration
        hyper = ", ".join(f"{key} = {value}" for key, value in told.get("defaults", {}).items())
        state = plugin.status if plugin.status == "ok" else f"{plugin.status}: {plugin.reason}"
        passes = str(told.get("phases", ""))
        table.add_row(plugin.name, f"{plugin.distribution} {plugin.version}", state, hyper, passes)
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
