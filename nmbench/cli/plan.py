"""`nmbench plan M`: the cells that a run would do, and which are done."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nmbench.cli.common import Data, MatrixName, Only, Plugins, Results, Seeds, Yes, select


def plan(
    matrix: MatrixName,
    results: Results = Path("results"),
    only: Only = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    yes: Yes = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="Instead: a command for each cell that is not done, for any job array.")
    ] = False,
    data: Data = Path("data"),
) -> None:
    """List the cells of a matrix, dense twins included, without running anything.

    Example: nmbench plan quick
    """
    chosen = select(matrix, results, only, seeds, plugins, yes)
    if commands:
        fixed = ["--results", str(results.absolute()), "--data", str(data.absolute())]
        fixed += ["--plugins", str(plugins.absolute())] if plugins else []
        fixed += ["--seeds", seeds] if seeds else []
        name = str(Path(matrix).absolute()) if Path(matrix).is_file() else matrix
        for cell in chosen.cells:
            if not chosen.store.state(cell).done:
                parts = [sys.executable, "-m", "nmbench", "run", name, *fixed, "--cell", cell.id]
                typer.echo(shlex.join(parts))
        return
    done = 0
    lines = []
    for cell in chosen.cells:
        state = chosen.store.state(cell, brief=True)
        done += state.done
        lines.append(f"{cell.id}  {state.status:<11}  {cell.label}")
    chosen.store.headlines.keep()
    typer.echo("\n".join([*lines, f"{len(chosen.cells)} cells, {done} done, {len(chosen.cells) - done} to run"]))
