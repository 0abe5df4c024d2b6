"""`nmbench export`: a finished cell's model as a file for other programs (--format), or the records of a matrix to
TensorBoard, MLflow or Weights & Biases (--sink).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nmbench._util.errors import UsageError, nearest
from nmbench.cli.common import Data, Plugins, Results
from nmbench.cli.deploy import output, plugin_of, spoken

if TYPE_CHECKING:
    from rich.console import Console

    from nmbench.records.schema import Record
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
    what: Annotated[
        str,
        typer.Argument(
            metavar="CELL|MATRIX",
            help="With --format a done cell by its id, as `nmbench status` shows it, alone or as MATRIX/ID. With "
            "--sink a matrix by name or file, or a folder below the results.",
        ),
    ],
    form: Annotated[
        str | None, typer.Option("--format", help="Write the cell's model: onnx, safetensors or torch.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="For --format: file to write; one named after the cell, here, by default.")
    ] = None,
    sink: SinkNames = None,
    results: Results = Path("results"),
    sinks: SinkFolder = None,
    data: Data = Path("data"),
    plugins: Plugins = None,
) -> None:
    """Write a finished cell's model for other programs, or send the records of a matrix to other places.

    ONNX is compared with torch where onnxruntime is installed; pruned weights stay in the file as zeros. Sending again
    is safe, an attempt takes its old place.

    Example: nmbench export quick/1a2b3c4d --format onnx; nmbench export quick --sink tensorboard
    """
    if form is None and sink:
        _records(what, sink, results, sinks)
    elif form is not None and not sink:
        _model(what, form, out, results, data, plugins)
    else:
        raise UsageError(
            "name a format for the model of a cell, as --format onnx, or a place for the records of a matrix, as "
            "--sink tensorboard, --sink mlflow or --sink wandb"
        )


def _model(what: str, form: str, out: Path | None, results: Path, data: Path, plugins: Path | None) -> None:
    from nmbench.plan.catalogue import catalogue
    from nmbench.records.lookup import with_weights
    from nmbench.running.job import SUFFIXES, ExportJob

    if form not in SUFFIXES:
        raise UsageError(f"--format {form!r}: there is no such format{nearest(form, SUFFIXES)}")
    record, file = with_weights(results, what)
    cell = record.cell
    to = output(out or Path(f"{cell.slug}-{cell.id[:8]}{SUFFIXES[form]}"), file)
    job = ExportJob(
        cell=cell,
        reference=plugin_of(catalogue(plugins), cell).reference,
        data_dir=data.absolute(),
        weights=file.absolute(),
        sha256=record.weights_sha256,
        out=to.absolute(),
        format=cast(Any, form),
        metadata=_metadata(record),
    )
    spoken(job)


def _metadata(record: Record) -> dict[str, str]:
    """What tells where a file comes from."""
    cell, commit = record.cell, record.environment.commit if record.environment else None
    told = {"task": cell.task, "model": cell.model, "pattern": cell.pattern_text, "method": cell.method}
    told |= {"scale": cell.scale, "seed": str(cell.seed), "cell": cell.id}
    return told | {"commit": commit or "unknown"}


def _records(matrix: str, sink: list[str], results: Path, sinks: Path | None) -> None:
    from rich.console import Console

    from nmbench.plan.matrix import load
    from nmbench.records.attempt import record_of

    folder = results / matrix if (results / matrix).is_dir() else results / load(matrix).name
    attempts = sorted(path for path in folder.resolve().rglob("attempt-*") if record_of(path) is not None)
    if not attempts:
        raise UsageError(f"no record below {folder}; `nmbench run {matrix}` makes them")
    console = Console()
    outbox = outbox_for(sink, sinks, results, folder.resolve(), console)
    for attempt in attempts:
        outbox.send(attempt)
    for name, written in outbox.close().items():
        console.print(f"{folder.name}: {written} of {len(attempts)} records to {name}", highlight=False, soft_wrap=True)
    if outbox.failed:
        raise typer.Exit(1)
