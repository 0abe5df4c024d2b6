"""`nmbench status M`: what became of each cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nmbench.cli.common import MatrixName, Only, Plugins, Results, Seeds, Yes, select

if TYPE_CHECKING:
    from nmbench.records.store import CellState


def _line(state: CellState) -> str:
    text = f"{state.cell.id}  {state.status:<11}  {state.cell.label}"
    return text if state.record is None else f"{text}  {state.record.outcome}"


def status(
    matrix: MatrixName,
    results: Results = Path("results"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    yes: Yes = False,
) -> None:
    """Show the newest outcome of every cell.

    Example: nmbench status quick
    """
    chosen = select(matrix, results, only, seeds, plugins, yes)
    counts: Counter[str] = Counter()
    for cell in chosen.cells:  # a line each: all records together may not fit the memory
        state = chosen.store.state(cell, brief=True)
        counts[state.status] += 1
        typer.echo(_line(state))
    summary = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    typer.echo(f"{len(chosen.cells)} cells: {summary}")
