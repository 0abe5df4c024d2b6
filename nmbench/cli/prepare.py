"""`nmbench prepare M`: make or verify the data of a matrix before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nmbench._util.child import ask
from nmbench.cli.common import Data, MatrixName, Only, Plugins, Results, Seeds, Yes, select

if TYPE_CHECKING:
    from nmbench.plan.cell import Cell
    from nmbench.plan.declarations import TaskPlugin
    from nmbench.running.job import Prepared


def _key(cell: Cell) -> tuple[str, str, str, str]:
    from nmbench._util.settings import canonical

    return cell.task, cell.model, cell.scale, canonical(dict(cell.train))


def _ask(cell: Cell, plugin: TaskPlugin, data: Path) -> Prepared:
    """What `Task.prepare` says, from a process of its own."""
    from pydantic import ValidationError

    from nmbench.records.schema import Status
    from nmbench.running.job import Job, Prepared

    if not plugin.usable:
        return Prepared(status=plugin.status, message=plugin.reason)
    job = Job(cell=cell, reference=plugin.reference, data_dir=data.absolute())
    reply = ask("nmbench.worker", "--prepare", job.model_dump_json())
    if reply.answer is None:
        return Prepared(status=Status.CRASH, message=f"preparing failed: {reply.ending}")
    try:
        return Prepared.model_validate(reply.answer)
    except ValidationError:  # something else printed an object after the answer
        return Prepared(status=Status.CRASH, message=f"preparing failed: {reply.ending}")


def fingerprints(cells: list[Cell], plugins: dict[str, TaskPlugin], data: Path) -> dict[str, str | None]:
    """Cell id -> fingerprint of its data as they are now (None if they cannot be prepared)."""
    answers: dict[tuple[str, str, str, str], Prepared] = {}
    for cell in cells:
        if _key(cell) not in answers:
            answers[_key(cell)] = _ask(cell, plugins[cell.task], data)
    found = {cell.id: answers[_key(cell)].data for cell in cells}
    return {key: None if there is None else there.fingerprint for key, there in found.items()}


def prepare(
    matrix: MatrixName,
    results: Results = Path("results"),
    data: Data = Path("data"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    yes: Yes = False,
) -> None:
    """Make or verify the data that the cells of a matrix need.

    Example: nmbench prepare quick --data /big/disk
    """
    chosen = select(matrix, results, only, seeds, plugins, yes)
    first = {_key(cell): cell for cell in reversed(chosen.cells)}
    failed = 0
    for cell in first.values():
        answer = _ask(cell, chosen.catalogue.tasks[cell.task], data)
        if answer.data:
            counts = ", ".join(f"{n} {name}" for name, n in answer.data.counts.items())
            typer.echo(
                f"ok    {cell.task} ({cell.scale}): {counts}; fingerprint {(answer.data.fingerprint or '')[:12]}"
            )
        else:
            failed += 1
            typer.echo(f"{answer.status:<5} {cell.task} ({cell.scale}): {answer.message}")
    if failed:
        raise typer.Exit(1)
