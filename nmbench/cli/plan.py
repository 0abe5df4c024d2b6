"""`nmbench plan M`: the cells that a run would do, and which are done."""

from pathlib import Path

import typer

from nmbench.cli.common import MatrixName, Only, Plugins, Results, Seeds, Yes, select


def plan(
    matrix: MatrixName,
    results: Results = Path("results"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    yes: Yes = False,
) -> None:
    """List the cells of a matrix, dense twins included, without running anything.

    Example: nmbench plan quick
    """
    chosen = select(matrix, results, only, seeds, plugins, yes)
    done = 0
    for cell in chosen.cells:
        state = chosen.store.state(cell, brief=True)
        done += state.done
        typer.echo(f"{cell.id}  {state.status:<11}  {cell.label}")
    typer.echo(f"{len(chosen.cells)} cells, {done} done, {len(chosen.cells) - done} to run")
