"""`nmbench cancel M`, `nmbench logs M CELL`: cells that run elsewhere, with no driver alive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmbench._util.errors import UsageError
from nmbench.cli.common import EngineOptions, MatrixName, Only, Plugins, Results, Seeds, select


def cancel(
    matrix: MatrixName,
    results: Results = Path("results"),
    on: Annotated[str | None, typer.Option(help="Only what runs on this engine: slurm or ray.")] = None,
    engine_options: EngineOptions = None,
) -> None:
    """End what `nmbench run M --on ...` has submitted, waiting or running. What is done stays done.

    Example: nmbench cancel study
    """
    from nmbench.engines import engine
    from nmbench.engines.options import merged
    from nmbench.plan.matrix import load
    from nmbench.records.store import Store
    from nmbench.running.flight import drop, noted, prefix

    planned = load(matrix)
    store = Store(results, planned.name)
    engines = [on] if on else sorted({name for name, _ in noted(store).values()})
    count = 0
    for name in engines:
        options = merged(name, planned.engine, engine_options or [])
        found = engine(name, {key: value for key, value in options.items() if key not in ("settle", "poll")})
        try:
            count += drop(store, found, prefix(store))
        finally:
            found.close()
    typer.echo(f"{planned.name}: {count} jobs cancelled")


def logs(
    matrix: MatrixName,
    cell: Annotated[str, typer.Argument(help="Id of a cell, or how it begins; or what its label holds.")],
    results: Results = Path("results"),
    seeds: Seeds = None,
    plugins: Plugins = None,
    lines: Annotated[int, typer.Option(min=1, help="The last so many lines of each.")] = 40,
) -> None:
    """Print what the newest attempt at a cell printed, and what its job printed around it.

    Example: nmbench logs study 3f2a90
    """
    from nmbench.records.attempt import LOG
    from nmbench.running.flight import logs_of

    only: Only = [cell]
    chosen = select(matrix, results, only, seeds, plugins)
    if len(chosen.cells) > 1:
        raise UsageError(f"{cell!r} fits {len(chosen.cells)} cells; `nmbench plan {matrix}` lists their ids")
    (found,) = chosen.cells
    files = [*logs_of(chosen.store, found), *(path / LOG for path in chosen.store.attempts(found)[-1:])]
    shown = 0
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        if text:
            typer.echo("\n".join([f"-- {file}", *text[-lines:]]))
            shown += 1
    if not shown:
        raise UsageError(f"{found.label} has printed nothing yet")
