"""`nmbench status M`: what became of each cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nmbench.cli.common import MatrixName, Only, Plugins, Results, Seeds, Yes, select

if TYPE_CHECKING:
    from nmbench.records.store import CellState
    from nmbench.running.overview import Activity


def _word(state: CellState, activity: Activity | None, silence: float) -> str:
    """The status; of a cell without a result yet whether it runs or waits, as far as its files tell."""
    if activity is None or state.done or activity.age > silence:
        return str(state.status)
    if activity.beat is None:
        return "waiting"
    return "running" if state.attempts and not state.recorded else str(state.status)


def _line(state: CellState, word: str, activity: Activity | None) -> str:
    text = f"{state.cell.id}  {word:<11}  {state.cell.label}"
    if activity is not None and word in ("waiting", "running"):
        return f"{text}  {activity.words}"
    return f"{text}  {state.outcome}".rstrip()


def status(
    matrix: MatrixName,
    results: Results = Path("results"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    yes: Yes = False,
) -> None:
    """Show the newest outcome of every cell, and of those that wait or run where they stand.

    Example: nmbench status quick
    """
    from nmbench.running.overview import activities

    chosen = select(matrix, results, only, seeds, plugins, yes)
    counts: Counter[str] = Counter()
    going_on = activities(chosen.store)
    lines = []
    for cell in chosen.cells:  # a line each: all records together may not fit the memory
        state = chosen.store.state(cell, brief=True)
        activity = going_on.get(state.cell.id)
        word = _word(state, activity, chosen.matrix.hang)
        counts[word] += 1
        lines.append(_line(state, word, activity))
    chosen.store.headlines.keep()
    summary = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    typer.echo("\n".join([*lines, f"{len(chosen.cells)} cells: {summary}"]))
