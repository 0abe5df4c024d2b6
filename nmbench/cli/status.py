"""`nmbench status M`: what became of each cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nmbench.cli.common import MatrixName, Only, Plugins, Results, Seeds, select

if TYPE_CHECKING:
    from nmbench.records.store import CellState


def _line(state: CellState) -> str:
    text = f"{state.status:<11}  {state.cell.label}"
    return text if state.record is None else f"{text}  {state.record.outcome}"


def status(
    matrix: MatrixName,
    results: Results = Path("results"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
) -> None:
    """Show the newest outcome of every cell.

    Example: nmbench status quick
    """
    chosen = select(matrix, results, only, seeds, plugins)
    states = [chosen.store.state(cell) for cell in chosen.cells]
    for state in states:
        typer.echo(_line(state))
    counts = Counter(state.status for state in states)
    typer.echo(f"{len(states)} cells: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
