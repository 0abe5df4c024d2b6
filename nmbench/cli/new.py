"""`nmbench new-task NAME` and `nmbench new-method NAME`: a package of one's own to begin from."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Option("--dir", help="Where the new folder goes.")]
_NEXT = "pip install -e {folder}\nnmbench check {name}\n"


def new_task(name: Annotated[str, typer.Argument(help="Lower-case, with dashes.")], folder: Folder = Path()) -> None:
    """Write a small installable package with a task that works.

    Example: nmbench new-task sounds
    """
    _write("task", name, folder)


def new_method(name: Annotated[str, typer.Argument(help="Lower-case, with dashes.")], folder: Folder = Path()) -> None:
    """Write a small installable package with a method that works.

    Example: nmbench new-method fading
    """
    _write("method", name, folder)


def _write(kind: str, name: str, parent: Path) -> None:
    from nmbench.scaffold import write

    folder = write(kind, name, parent)
    typer.echo(f"{folder} holds a {kind} that works. Next:\n\n" + _NEXT.format(folder=folder, name=name))
