"""`nmbench report M`: from records to a markdown page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmbench.cli.common import Results
from nmbench.errors import UsageError


def _name(matrix: str, results: Path) -> str:
    """The matrix' name: of a shipped one, a file, or simply a folder of results."""
    from nmbench.matrix import load, shipped

    if (results / matrix).is_dir() and not matrix.endswith(".toml"):
        return matrix
    if matrix in shipped() or matrix.endswith(".toml") or Path(matrix).is_file():
        return load(matrix).name
    raise UsageError(f"no results of {matrix!r} in {results}; `nmbench run {matrix}` makes them")


def report(
    matrix: Annotated[str, typer.Argument(help="A matrix by name or file, or a folder below the results.")],
    results: Results = Path("results"),
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page; reports/<matrix> if not given.")
    ] = None,
) -> None:
    """Write README.md and its figures from the records of a matrix.

    Example: nmbench report quick
    """
    from nmbench.report.render import write_report

    name = _name(matrix, results)
    page = write_report(results / name, out or Path("reports") / name, title=name)
    typer.echo(f"report: {page}")
