"""`nmbench export M`: records that are there already, to TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmbench._util.errors import UsageError
from nmbench.cli.common import Results

if TYPE_CHECKING:
    from rich.console import Console

    from nmbench.sinks.outbox import Outbox

SinkNames = Annotated[
    list[str] | None,
    typer.Option("--sink", help="Send ended cells there too: tensorboard, mlflow, wandb, or a plugin's. Repeatable."),
]
SinkFolder = Annotated[
    Path | None,
    typer.Option("--sinks", envvar="NMBENCH_SINKS", help="Folder of what sinks write; sinks/ beside the results."),
]


def outbox_for(wanted: list[str] | None, sinks: Path | None, results: Path, folder: Path, console: Console) -> Outbox:
    """The way to the sinks that the options name, for a matrix' `folder`. Raises UsageError for an unknown name."""
    from nmbench.sinks.outbox import Outbox

    def warn(line: str) -> None:
        console.print(f"{folder.name}: {line}", highlight=False, markup=False, soft_wrap=True)

    return Outbox(wanted or [], sinks or results.absolute().parent / "sinks", folder, warn)


def export(
    matrix: Annotated[str, typer.Argument(help="A matrix by name or file, or a folder below the results.")],
    sink: SinkNames = None,
    results: Results = Path("results"),
    sinks: SinkFolder = None,
) -> None:
    """Send the records of a matrix to other places; again is safe, an attempt takes its old place.

    Example: nmbench export quick --sink tensorboard
    """
    from rich.console import Console

    from nmbench.plan.matrix import load
    from nmbench.records.attempt import record_of

    folder = results / matrix if (results / matrix).is_dir() else results / load(matrix).name
    attempts = sorted(path for path in folder.resolve().rglob("attempt-*") if record_of(path) is not None)
    if not attempts:
        raise UsageError(f"no record below {folder}; `nmbench run {matrix}` makes them")
    if not sink:
        raise UsageError("name a place, as --sink tensorboard, --sink mlflow or --sink wandb")
    console = Console()
    outbox = outbox_for(sink, sinks, results, folder.resolve(), console)
    for attempt in attempts:
        outbox.send(attempt)
    for name, written in outbox.close().items():
        console.print(f"{folder.name}: {written} of {len(attempts)} records to {name}", highlight=False, soft_wrap=True)
    if outbox.failed:
        raise typer.Exit(1)
