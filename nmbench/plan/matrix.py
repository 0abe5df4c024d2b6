"""Matrix files (TOML): what to run. nmbench.plan.unfold makes cells of them."""

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nmbench._util.errors import UsageError, nearest
from nmbench.plan.cell import DENSE
from nmbench.sparsity.allocation import read

_DEEPEST = 16  # tables and lists within each other that a setting may be


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _settings(value: Any) -> Any:
    """Tables of settings: text, finite numbers, lists and tables of these. Raises ValueError."""
    if isinstance(value, dict):
        for key, given in value.items():
            if given == []:
                raise ValueError(f"the list {key} is empty, which makes no cell")
            _check(key, given, 0)
    return value


def _check(key: str, value: Any, depth: int) -> None:
    if isinstance(value, list | dict):
        if depth == _DEEPEST:
            raise ValueError(f"{key} is nested too deeply")
        for part in value.values() if isinstance(value, dict) else value:
            _check(key, part, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} must be finite, not {value}")
    elif not isinstance(value, str | int | float):
        raise ValueError(f"{key} is a {type(value).__name__}, which no setting is")


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Input should be a number of seconds")
    return value


def _patterns(value: Any) -> Any:
    """A list of patterns as texts; a table of names and patterns becomes the text of that allocation."""
    return [str(read(one)) if isinstance(one, dict) else one for one in _as_list(value)]


Table = Annotated[dict[str, Any], BeforeValidator(_settings)]
Seconds = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False, strict=False)]
Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Texts = Annotated[list[str], BeforeValidator(_patterns), Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_as_list), Field(min_length=1)]


class Grid(BaseModel):
    """One block of cells: every combination of its lists. Lists inside `hyper` and `train` multiply too.

    pattern: a table gives each layer its own, {"*.conv1" = "dense", "*" = "1:4"}; see nmbench.sparsity.allocation.

    alone: these cells and their dense twins run with nothing beside them, so that their times may be compared.
    distill: these cells learn from their dense twins (nmbench.contract.distillation); lists inside multiply.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    pattern: Texts = [DENSE]
    method: Names = ["sr-ste"]
    hyper: Table = {}
    distill: Table = {}
    train: Table = {}
    tasks: Names | None = None
    models: Names | None = None
    seeds: Seeds | None = None
    alone: bool = False


class Matrix(BaseModel):
    """A matrix file.

    timeout, hang: seconds a cell may take, and may be silent, before it is stopped. speed: when all cells have ended,
    time each model and pattern once in brief (nmbench.running.brief), or with "full" each cell, as `run --speed` does.
    engine: a table of options for each engine that runs cells elsewhere, [engine.slurm] partition = "gpu".
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    scale: str
    tasks: Names
    seeds: Seeds = [0]
    train: Table = {}
    init: str | None = None
    timeout: Seconds | None = None
    hang: Seconds = 1800.0
    speed: bool | Literal["full"] = False
    engine: dict[str, dict[str, str | int | float | bool]] = {}
    grid: list[Grid] = Field(min_length=1)


def shipped() -> list[str]:
    """Names of the matrices that come with the package."""
    folder = resources.files("nmbench.plan.matrices")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def _read(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if path.exists() and not path.is_file():  # to read a pipe would wait for ever
            raise UsageError(f"matrix {name}: not a regular file")
        try:
            return path.read_text(encoding="utf-8-sig"), name
        except (OSError, ValueError) as error:
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
    return f"{place!r}: {first['msg'].removeprefix('Value error, ')}"


def load(name: str) -> Matrix:
    """The matrix called `name` among the shipped ones, or in the file `name`. Raises UsageError in one line."""
    text, place = _read(name)
    try:
        return Matrix.model_validate(tomllib.loads(text))
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(f"matrix {place}: {_explain(error)}{more}") from error
    except ValueError as error:  # a TOMLDecodeError, or Python's for an integer of thousands of digits
        raise UsageError(f"matrix {place}: not TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"matrix {place}: it is nested too deeply") from error
