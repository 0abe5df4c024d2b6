"""Matrix files (TOML): what to run. nmbench.plan.unfold makes cells of them.

load      name of a shipped matrix, or a path -> Matrix
shipped   names of those that come with the package
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nmbench._util.errors import UsageError, nearest
from nmbench.plan.cell import DENSE

__all__ = ["Grid", "Matrix", "load", "shipped"]


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
