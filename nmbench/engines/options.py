"""Options of an engine, `--engine key=value`: those typed win over the matrix file, and these over the user's file."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from nmbench._util.errors import UsageError, nearest
from nmbench.engines import ENGINES


def user_file() -> Path:
    """`engines.toml`: a table for each engine, [slurm] partition = "gpu"."""
    return user_config_path("nmbench") / "engines.toml"


def merged(engine: str, matrix: Mapping[str, Mapping[str, Any]], typed: Sequence[str]) -> dict[str, str]:
    """The options of `engine`. "" is that of an option without a value. Raises UsageError for what is none."""
    if other := [name for name in matrix if name not in ENGINES]:
        raise UsageError(f"[engine.{other[0]}] in the matrix file: no such engine{nearest(other[0], ENGINES)}")
    given: dict[str, Any] = {**_of_user(engine), **matrix.get(engine, {})}
    for text in typed:
        key, equals, value = text.partition("=")
        if not key.strip():
            raise UsageError(f"--engine {text!r}: write key=value")
        given[key.strip().lstrip("-")] = value.strip() if equals else True
    return {key.replace("_", "-"): _text(key, value) for key, value in given.items() if value is not False}


def _of_user(engine: str) -> Mapping[str, Any]:
    file = user_file()
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from error
    for name, table in tables.items():
        if name not in ENGINES:
            raise UsageError(f"{file}: [{name}] is no engine{nearest(name, ENGINES)}")
        if not isinstance(table, dict):
            raise UsageError(f"{file}: write a table [{name}]")
    found: Mapping[str, Any] = tables.get(engine, {})
    return found


def _text(key: str, value: Any) -> str:
    if value is True:
        return ""
    if not isinstance(value, str | int | float):
        raise UsageError(f"the option {key} of an engine is text or a number, not a {type(value).__name__}")
    return str(value)
