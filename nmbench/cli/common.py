"""What several verbs share: options, and from a matrix name to its cells."""

from __future__ import annotations

import fnmatch
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmbench._util.errors import UsageError

if TYPE_CHECKING:  # imported in `select`, so that --help need not wait for pydantic
    from nmbench.plan.catalogue import Catalogue
    from nmbench.plan.cell import Cell
    from nmbench.plan.matrix import Matrix
    from nmbench.records.store import Store

MatrixName = Annotated[str, typer.Argument(help="Name of a shipped matrix, or a path to a .toml file.")]
Results = Annotated[Path, typer.Option("--results", envvar="NMBENCH_RESULTS", help="Folder of all results.")]
Plugins = Annotated[Path | None, typer.Option("--plugins", help="A folder of task files to take in too.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only cells whose id begins so, or whose label holds this (with *)."),
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Instead of the matrix' seeds: 0,1,2 or 0-5.")]
EngineOptions = Annotated[
    list[str] | None, typer.Option("--engine", help="key=value, an option of the engine; any number of times.")
]
Data = Annotated[Path, typer.Option("--data", envvar="NMBENCH_DATA", help="Folder of all data sets.")]
Yes = Annotated[bool, typer.Option("--yes", help="Also if the matrix has more than 50,000 combinations.")]

_MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class Selection:
    """A matrix, what is installed, the chosen cells (ids of those to run alone), and where their results lie."""

    matrix: Matrix
    catalogue: Catalogue
    cells: list[Cell]
    store: Store
    alone: frozenset[str] = frozenset()


def _parse_seeds(text: str) -> list[int]:
    seeds: list[int] = []
    count = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"--seeds {text!r}: write 0,1,2 or 0-5")
        count += int(last or first) + 1 - int(first)
        if len(first) > 18 or len(last) > 18 or count > _MOST_SEEDS:
            raise UsageError(f"--seeds {text!r}: more than {_MOST_SEEDS:,} seeds, or too large ones")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _matches(cell: Cell, text: str) -> bool:
    if len(text) >= 4 and cell.id.startswith(text):
        return True
    return fnmatch.fnmatchcase(cell.label, f"*{text}*") or fnmatch.fnmatchcase(cell.slug, f"*{text}*")


def select(
    name: str,
    results: Path,
    only: list[str] | None = None,
    seeds: str | None = None,
    plugins: Path | None = None,
    yes: bool = False,
) -> Selection:
    """The cells that the options choose, be they ever so many with `yes`. Raises UsageError if there are none."""
    from nmbench.plan.catalogue import catalogue
    from nmbench.plan.matrix import load
    from nmbench.plan.unfold import MOST, alone, cells
    from nmbench.records.store import Store

    matrix = load(name)
    if seeds is not None:
        chosen = _parse_seeds(seeds)
        matrix.seeds = chosen
        for grid in matrix.grid:
            grid.seeds = None
    known = catalogue(plugins)
    found = cells(matrix, known, None if yes else MOST)
    gc.freeze()  # of many cells none will be freed: they need not be looked through again and again
    for text in only or []:
        if not any(_matches(cell, text) for cell in found):
            raise UsageError(f"--only {text!r} fits no cell of {matrix.name}; `nmbench plan {name}` lists them")
    if only:
        found = [cell for cell in found if any(_matches(cell, text) for text in only)]
    return Selection(matrix, known, found, Store(results, matrix.name), alone(matrix, known))
