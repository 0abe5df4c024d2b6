"""Matrix files (TOML): what to run, checked before anything starts, unfolded into cells.

load      name of a shipped matrix, or a path -> Matrix
cells     Matrix + catalogue of plugins -> cells, the dense twin of each included
alone     the ids of those that are to have the machine to themselves
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nmbench._util.errors import UsageError, nearest
from nmbench.plan.catalogue import Catalogue, Plugin
from nmbench.plan.cell import DENSE, Cell, InitialWeights, pattern_of
from nmbench.sparsity.pattern import NMPattern

__all__ = ["Grid", "Matrix", "alone", "cells", "load", "shipped"]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_as_list), Field(min_length=1)]


class Grid(BaseModel):
    """One block of cells: every combination of its lists. Lists inside `hyper` and `train` multiply too.

    alone: these cells and their dense twins run with nothing beside them, so that their times may be compared.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    pattern: Names = [DENSE]
    method: Names = ["sr-ste"]
    hyper: dict[str, Any] = {}
    train: dict[str, Any] = {}
    tasks: Names | None = None
    models: Names | None = None
    seeds: Seeds | None = None
    alone: bool = False


class Matrix(BaseModel):
    """A matrix file. timeout, hang: seconds a cell may take, and may be silent, before it is stopped."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    scale: str
    tasks: Names
    seeds: Seeds = [0]
    train: dict[str, Any] = {}
    init: str | None = None
    timeout: float | None = Field(default=None, gt=0, strict=False)
    hang: float = Field(default=1800.0, gt=0, strict=False)
    grid: list[Grid] = Field(min_length=1)


def shipped() -> list[str]:
    """Names of the matrices that come with the package."""
    folder = resources.files("nmbench.plan.matrices")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def _read(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"matrix {name}: {reason}") from error
    if name not in shipped():
        raise UsageError(f"no matrix {name!r}{nearest(name, shipped())} (or give a path to a .toml file)")
    return resources.files("nmbench.plan.matrices").joinpath(f"{name}.toml").read_text(encoding="utf-8"), name


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = Grid.model_fields if first["loc"][0] == "grid" else Matrix.model_fields
        return f"unknown key {place!r}{nearest(str(first['loc'][-1]), fields)}"
    if first["type"] == "missing":
        return f"the key {place!r} is missing"
    if first["type"] == "too_short":
        return f"{place!r} is empty; give at least one"
    return f"{place!r}: {first['msg']}"


def load(name: str) -> Matrix:
    """The matrix called `name` among the shipped ones, or in the file `name`. Raises UsageError in one line."""
    text, place = _read(name)
    try:
        return Matrix.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"matrix {place}: not TOML: {error}") from error
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(f"matrix {place}: {_explain(error)}{more}") from error


@dataclass(frozen=True)
class _Choice:
    plugin: Plugin
    model: str


def _pattern(text: str) -> NMPattern | None:
    try:
        return pattern_of(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _choose_model(entry: str, matrix: Matrix, catalogue: Catalogue, models: list[str] | None) -> list[_Choice]:
    name, _, model = entry.partition("/")
    plugin = catalogue.tasks.get(name)
    if plugin is None:
        raise UsageError(f"unknown task {name!r}{nearest(name, catalogue.tasks)}")
    told = plugin.declaration
    if "scales" not in told:  # it cannot be imported: its cells become visible rows with that reason
        return [_Choice(plugin, m) for m in ([model] if model else models or ["default"])]
    if matrix.scale not in told["scales"]:
        raise UsageError(f"task {name!r} has no scale {matrix.scale!r}{nearest(matrix.scale, told['scales'])}")
    default = told["default_models"].get(matrix.scale, told["models"][0])
    wanted = [model] if model else models or [default]
    for candidate in wanted:
        if candidate not in told["models"] and not told["open_models"]:
            raise UsageError(f"task {name!r} has no model {candidate!r}{nearest(candidate, told['models'])}")
    return [_Choice(plugin, candidate) for candidate in wanted]


def _product(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the values that are lists."""
    lists = [[(key, v) for v in _as_list(value)] for key, value in settings.items()]
    return [dict(combination) for combination in itertools.product(*lists)]


def _check_settings(kind: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that equal their default. Raises UsageError for an unknown one or a wrong type."""
    for key, value in given.items():
        if key not in known:
            raise UsageError(f"{kind} has no setting {key!r}{nearest(key, known)}")
        default = known[key]
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) if number else True
        fits = fits and not (isinstance(default, int) and isinstance(value, float) and not value.is_integer())
        if (
            not fits
            or isinstance(default, bool) != isinstance(value, bool)
            or isinstance(default, str) != isinstance(value, str)
        ):
            raise UsageError(f"{kind}: {key} must be like {default!r}, not {value!r}")
    return {key: value for key, value in given.items() if value != known[key]}


def _init(matrix: Matrix) -> InitialWeights | None:
    try:
        return InitialWeights.read(Path(matrix.init)) if matrix.init is not None else None
    except OSError as error:
        raise UsageError(f"init = {matrix.init!r}: {error.strerror}") from error


def _methods_of(grid: Grid, catalogue: Catalogue) -> Iterable[tuple[NMPattern | None, str, dict[str, Any]]]:
    """(pattern, method, hyper) combinations of a grid; a method that stays dense is the dense twin."""
    for text, name in itertools.product(grid.pattern, grid.method):
        method = catalogue.methods.get(name)
        if method is None:
            raise UsageError(f"unknown method {name!r}{nearest(name, catalogue.methods)}")
        if text == DENSE or name == DENSE:
            if grid.hyper:
                raise UsageError("dense cells take no hyper-parameters: put them into a grid of their own")
            yield None, DENSE, {}
            continue
        pattern = _pattern(text)
        if "defaults" not in method.declaration:
            raise UsageError(f"method {name!r} cannot be used: {method.reason}")
        for hyper in _product(grid.hyper):
            yield pattern, name, _check_settings(f"method {name!r}", hyper, method.declaration["defaults"])


def cells(matrix: Matrix, catalogue: Catalogue) -> list[Cell]:
    """Every cell of the matrix, each once, dense twins included. Raises UsageError in one line."""
    found = _unfold(matrix, matrix.grid, catalogue)
    return sorted(found.values(), key=lambda c: (c.seed, c.task, c.model, not c.is_dense))


def alone(matrix: Matrix, catalogue: Catalogue) -> frozenset[str]:
    """Ids of the cells that a grid with `alone = true` holds, their dense twins included."""
    return frozenset(_unfold(matrix, [grid for grid in matrix.grid if grid.alone], catalogue))


def _unfold(matrix: Matrix, grids: Iterable[Grid], catalogue: Catalogue) -> dict[str, Cell]:
    init = _init(matrix)
    found: dict[str, Cell] = {}
    for grid in grids:
        variants = list(_methods_of(grid, catalogue))
        for entry in grid.tasks or matrix.tasks:
            for choice in _choose_model(entry, matrix, catalogue, grid.models):
                known = choice.plugin.declaration.get("scales", {}).get(matrix.scale)
                for train in _product({**matrix.train, **grid.train}):
                    if known is not None:
                        train = _check_settings(f"task {choice.plugin.name!r}", train, known)
                    for seed, variant in itertools.product(grid.seeds or matrix.seeds, variants):
                        pattern, method, hyper = variant
                        cell = Cell(
                            choice.plugin.name, choice.model, matrix.scale, pattern, method, seed, train, hyper, init
                        )
                        for one in (cell.twin, cell):
                            found.setdefault(one.id, one)
    return found
