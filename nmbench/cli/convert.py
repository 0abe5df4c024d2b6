"""`nmbench convert WEIGHTS`: a finished model that runs sparse on this machine."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from nmbench._util.errors import UsageError
from nmbench._util.machine import gpus
from nmbench.cli.common import Data, Plugins, Results
from nmbench.cli.deploy import output, plugin_of, spoken

if TYPE_CHECKING:
    from nmbench.plan.catalogue import Catalogue
    from nmbench.plan.cell import Cell
    from nmbench.records.schema import Record

_DTYPES = ("float32", "bfloat16", "float16")


def convert(
    weights: Annotated[
        str,
        typer.Argument(
            help="A safetensors or torch file of a finalised model, or a done cell by its id, as `nmbench status` "
            "shows it, alone or as MATRIX/ID."
        ),
    ],
    task: Annotated[str | None, typer.Option(help="Of a file: the task that builds its model.")] = None,
    model: Annotated[str | None, typer.Option(help="Of a file: the task's model; the scale's default.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="Of a file: its settings shape the model; paper by default.")
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option(help="Of a file: another setting, as classes=100. Repeatable.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(help="That all weights keep to; read off each one by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples at a time, which decides what is faster.")] = 1,
    dtype: Annotated[str | None, typer.Option(help="float32 (default on a CPU), bfloat16 (on a GPU), float16.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    limit: Annotated[float | None, typer.Option(min=0, help="Seconds after which no other layer is timed.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; beside the weights by default.")] = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    plugins: Plugins = None,
) -> None:
    """Convert a finished model: sparse layers wherever they are faster here, each checked and timed.

    Prints what runs each layer, how fast, and why not; saves what nmbench.kernels.load_converted reads.

    Example: nmbench convert resnet50.safetensors --task classification --model resnet50 --pattern 1:4
    """
    from nmbench.plan.catalogue import catalogue
    from nmbench.running.job import ConvertJob

    where, kept = _device(device), _pattern(pattern)
    if dtype is not None and dtype not in _DTYPES:
        raise UsageError(f"--dtype {dtype!r}: use {', '.join(_DTYPES)}")
    file, record = Path(weights), None
    if not file.is_file():
        record, file = _finished(weights, results, bool(task or model or scale or train))
    elif task is None:
        raise UsageError(f"{weights}: say whose weights these are: --task classification --model resnet50, say")
    to = output(out or file.with_name(f"{file.stem}-converted.safetensors"), file)
    known = catalogue(plugins)
    cell = record.cell if record else _cell(known, task or "", model, scale or "paper", train or [])
    job = ConvertJob(
        cell=cell,
        reference=plugin_of(known, cell).reference,
        data_dir=data.absolute(),
        device=where,
        weights=file.absolute(),
        sha256=record.weights_sha256 if record else None,
        own=record is not None,
        out=to.absolute(),
        pattern=kept or (_kept(record) if record else None),
        batch=batch,
        dtype=cast(Any, dtype or ("float32" if where == "cpu" else "bfloat16")),
        limit_s=limit,
    )
    spoken(job)


def _finished(text: str, results: Path, described: bool) -> tuple[Record, Path]:
    """The cell's record and file of weights. described: by options, which are for files. Raises UsageError."""
    from nmbench.records.lookup import is_id, with_weights

    if not is_id(text):
        raise UsageError(f"{text}: there is no such file, and it is no cell's id (`nmbench status M` shows them)")
    if described:
        raise UsageError(f"{text} is a cell, which has its own task, model and settings: leave the options out")
    return with_weights(results, text)


def _kept(record: Record) -> str | None:
    """What the cell's weights keep to: each its own pattern, where the audit found such."""
    cell, audit = record.cell, record.audit
    lines = [layer for layer in audit.layers if layer.role == "sparse"] if audit else []
    if cell.pattern is None or not any(line.pattern for line in lines):
        return str(cell.pattern) if cell.pattern else None
    return ",".join(f"{line.name}={line.pattern or cell.pattern}" for line in lines)


def _pattern(text: str | None) -> str | None:
    from nmbench.sparsity.allocation import read

    try:
        return None if text is None else str(read(text))
    except ValueError as error:
        raise UsageError(f"--pattern: {error}") from error


def _device(asked: str) -> Literal["cpu", "cuda"]:
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {asked!r}: use auto, cpu or cuda")
    if asked == "cuda" and not gpus():
        raise UsageError("--device cuda: no NVIDIA GPU is visible here")
    return "cuda" if asked == "cuda" or (asked == "auto" and gpus()) else "cpu"


def _cell(known: Catalogue, task: str, model: str | None, scale: str, train: list[str]) -> Cell:
    """What stands for the training of the file. Raises UsageError for what the task does not have."""
    from pydantic import ValidationError

    from nmbench.plan.matrix import Grid, Matrix
    from nmbench.plan.unfold import cells

    name = f"{task}/{model}" if model else task
    try:
        matrix = Matrix(
            name="convert", scale=scale, tasks=[name], train=dict(map(_setting, train)), grid=[Grid(pattern=["dense"])]
        )
    except ValidationError as error:
        raise UsageError(f"--train: {error.errors()[0]['msg']}") from error
    (cell, *more) = cells(matrix, known)
    if more:
        raise UsageError("--train: a list makes several models; give one value")
    return cell


def _setting(text: str) -> tuple[str, Any]:
    """A TOML value, or text where it is none."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--train {text!r}: write setting=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
