"""`nmbench report M`: from records to a report."""

from pathlib import Path
from typing import Annotated

import typer

from nmbench._util.errors import UsageError
from nmbench.cli.common import Results


def _name(matrix: str, results: Path) -> str:
    """The matrix' name: of a shipped one, a file, or simply a folder of results."""
    from nmbench.plan.matrix import load, shipped

    named = Path(matrix)
    if not matrix.endswith(".toml") and (named.is_absolute() or not named.name or {".", ".."} & set(named.parts)):
        # it would name the folder of the report too, and what stands there would be replaced
        raise UsageError(f"{matrix!r} is no name below {results}; give its folder with --results, and its name alone")
    if (results / matrix).is_dir() and not matrix.endswith(".toml"):
        return matrix
    if matrix in shipped() or matrix.endswith(".toml") or named.is_file():
        name = load(matrix).name
        if (results / name).is_dir():
            return name
    raise UsageError(f"no results of {matrix!r} in {results}; `nmbench run {matrix}` makes them")


def _formats(text: str | None) -> list[str] | None:
    """The formats that are asked for, in the order of all; None if none were."""
    from nmbench.report.write import FORMATS

    if text is None:
        return None
    asked = {name.strip() for name in text.lower().split(",")}
    if unknown := sorted(asked - {*FORMATS, "all"}):
        raise UsageError(
            f"--format {text!r}: no {unknown[0]!r}; there are {', '.join(FORMATS)}, all (md,html if not given)"
        )
    return [name for name in FORMATS if {name, "all"} & asked]


def report(
    matrix: Annotated[str, typer.Argument(help="A matrix by name or file, or a folder below the results.")],
    results: Results = Path("results"),
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report; reports/<matrix> if not given.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", help="Of md, html, csv, tex, with commas, or all; md,html if not given.")
    ] = None,
) -> None:
    """Write the report of a matrix from its records: README.md with its figures, and report.html.

    Example: nmbench report quick --format all
    """
    name, asked = _name(matrix, results), _formats(formats)
    folder = out or Path("reports") / name
    from nmbench.report.write import DEFAULT, write_report

    for page in write_report(results / name, folder, name, asked or DEFAULT):
        typer.echo(f"report: {page}")
