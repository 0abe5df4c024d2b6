"""What `convert` and `export` share: where the file goes, whose model it is, and asking for it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nmbench._util.errors import UsageError, nearest

if TYPE_CHECKING:
    from nmbench.plan.catalogue import Catalogue
    from nmbench.plan.cell import Cell
    from nmbench.plan.declarations import TaskPlugin
    from nmbench.running.job import ConvertJob, ExportJob


def output(out: Path, weights: Path) -> Path:
    """The file to write, known to be one that can be. Raises UsageError, before anything takes time."""
    if out.is_dir():
        raise UsageError(f"--out {out}: that is a folder; name a file in it")
    if out.resolve() == weights.resolve():
        raise UsageError(f"--out {out}: that is the file of the weights; name another")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            return out
    except OSError as error:
        raise UsageError(f"--out {out}: nothing can be written there ({error.strerror})") from error


def plugin_of(known: Catalogue, cell: Cell) -> TaskPlugin:
    """The cell's task. Raises UsageError where it is not installed, or not usable."""
    if cell.task not in known.tasks:
        raise UsageError(f"task {cell.task!r} is not installed{nearest(cell.task, known.tasks)}")
    plugin = known.tasks[cell.task]
    if not plugin.usable:
        raise UsageError(f"task {cell.task!r} cannot be used: {plugin.reason}")
    return plugin


def spoken(job: ConvertJob | ExportJob) -> None:
    """Have the job done, and print what it says. Raises UsageError where nothing was written."""
    from nmbench.running.deploy import ask

    try:
        typer.echo(ask(job))
    except KeyboardInterrupt:
        typer.echo("nmbench: interrupted; nothing was written", err=True)
        raise typer.Exit(130) from None
