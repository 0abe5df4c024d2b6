"""`nmbench prepare M`: make or verify the data of a matrix before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nmbench._util.child import ask
from nmbench.cli.common import Data, MatrixName, Only, Plugins, Results, Seeds, select

if TYPE_CHECKING:
    from nmbench.plan.catalogue import Plugin
    from nmbench.plan.cell import Cell

__all__ = ["fingerprints", "prepare"]


def _key(cell: Cell) -> tuple[str, str, str, str]:
    from nmbench.plan.cell import canonical

    return cell.task, cell.model, cell.scale, canonical(dict(cell.train))


def _ask(cell: Cell, plugin: Plugin, data: Path) -> dict[str, Any]:
    """What `Task.prepare` says, from a process of its own."""
    if plugin.status != "ok":
        return {"status": plugin.status, "message": plugin.reason}
    job = {"cell": cell.to_dict(), "reference": plugin.reference, "data_dir": str(data.absolute())}
    reply = ask("nmbench.worker", "--prepare", json.dumps(job))
    return reply.answer or {"status": "crash", "message": f"preparing failed: {reply.ending}"}


def fingerprints(cells: list[Cell], plugins: dict[str, Plugin], data: Path) -> dict[str, str | None]:
    """Cell id -> fingerprint of its data as they are now (None if they cannot be prepared)."""
    answers: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for cell in cells:
        if _key(cell) not in answers:
            answers[_key(cell)] = _ask(cell, plugins[cell.task], data)
    return {cell.id: answers[_key(cell)].get("fingerprint") for cell in cells}


def prepare(
    matrix: MatrixName,
    results: Results = Path("results"),
    data: Data = Path("data"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
) -> None:
    """Make or verify the data that the cells of a matrix need.

    Example: nmbench prepare quick --data /big/disk
    """
    chosen = select(matrix, results, only, seeds, plugins)
    first = {_key(cell): cell for cell in reversed(chosen.cells)}
    failed = 0
    for cell in first.values():
        answer = _ask(cell, chosen.catalogue.tasks[cell.task], data)
        if answer["status"] == "ok":
            counts = ", ".join(f"{n} {name}" for name, n in answer["counts"].items())
            typer.echo(f"ok    {cell.task} ({cell.scale}): {counts}; fingerprint {answer['fingerprint'][:12]}")
        else:
            failed += 1
            typer.echo(f"{answer['status']:<5} {cell.task} ({cell.scale}): {answer['message']}")
    if failed:
        raise typer.Exit(1)
