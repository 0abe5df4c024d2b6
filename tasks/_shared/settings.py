"""A task's settings as a type: one table for defaults, ranges, help texts, and for the code that reads them."""

import difflib
from collections.abc import Iterable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nmbench.task import Spec


class Settings(BaseModel):
    """The field names are those of the matrix, their defaults the values at scale quick."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    untrained: bool = Field(
        False, description="no data and no training: a model with its initial weights, for matrices about speed alone"
    )

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """The settings of a cell. Raises ValueError, naming the setting, for a value that cannot be."""
        try:
            return cls.model_validate(dict(spec.train))
        except ValidationError as error:
            first = error.errors()[0]
            name, said = first["loc"][0], first["msg"]
            raise ValueError(f"the setting {name} is {first['input']!r}: {said[0].lower()}{said[1:]}") from error

    @classmethod
    def scale(cls, **values: Any) -> dict[str, Any]:
        """Every setting at a scale that has `values` in place of the defaults."""
        return cls.model_validate(values).model_dump()


def unknown_name(kind: str, name: str, known: Iterable[str], count: int = 3) -> str:
    """ "no detection model is called 'x'; the nearest names are ..."."""
    nearest = difflib.get_close_matches(name, list(known), n=count, cutoff=0.0)
    return f"no {kind} is called {name!r}; the nearest names are {', '.join(nearest)}"
