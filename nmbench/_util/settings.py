"""Settings of methods and scales: the one rule of what they may be, for `nmbench plan`, the worker and the pages."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nmbench._util.errors import nearest

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def plain(value: Any) -> Any:
    """`value` in canonical form: 20.0 and 20 are the same setting, and tuples are lists."""
    if value is None or isinstance(value, (str, int)):  # the most frequent first: it is asked for every cell of many
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, (dict, Mapping)):  # dict first, as above
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def canonical(value: Any) -> str:
    """JSON text that is the same for equal settings: sorted keys, no spaces, whole floats as integers.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    return _encode(plain(value))


class SettingError(ValueError):
    """A setting that is not declared, or a value that it cannot have; one line."""


class Setting(BaseModel):
    """One setting of a method, or of a task at one scale: its default, which sets the type too, its help and range.

    up_to: another setting, which it must not be above. beside: another share, with which it must not be above 1. In a
    pydantic model they stand in a field's `json_schema_extra`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Any = None
    help: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] = ()
    up_to: str = ""
    beside: str = ""

    @property
    def range(self) -> str:
        """What a value must be beyond its type, in words; "" if all will do."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = {"at least": self.ge, "above": self.gt, "at most": self.le, "below": self.lt}
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)

    def typed(self, value: Any) -> Any:
        """`value` as the type of the default: 3.0 is an integer where that is one, 1 a float where that is one.

        Raises SettingError for another type, a number that is not finite, or one out of range.
        """
        if not _finite(value):
            raise SettingError(f"must be finite, not {value!r}")
        try:
            made = _as(self.default, value)
        except (TypeError, OverflowError):
            raise SettingError(f"must be like {self.default!r}, not {value!r}") from None
        if not self._within(made):
            raise SettingError(f"must be {self.range}, not {value!r}")
        return made

    def _within(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        checks = ((self.ge, operator.ge), (self.gt, operator.gt), (self.le, operator.le), (self.lt, operator.lt))
        return all(compare(value, bound) for bound, compare in checks if bound is not None)


class Settings(RootModel[dict[str, Setting]]):
    """All settings that something takes. It goes through JSON, so that the parent process checks as the worker does."""

    @classmethod
    def declared(cls, defaults: Mapping[str, Any], model: type[BaseModel] | None = None) -> Settings:
        """One setting for each of `defaults`, and for each field of `model`, which says more: type, range, description.

        Where both have a default, that in `defaults` holds. Raises SettingError for a default that breaks a range.
        """
        made = {key: _setting(field) for key, field in model.model_fields.items()} if model else {}
        for key, default in defaults.items():
            setting = made.get(key, Setting())
            made[key] = setting.model_copy(
                update={"default": default if setting.default is None else setting.typed(default)}
            )
        return cls(made)

    @property
    def defaults(self) -> dict[str, Any]:
        """Name -> default."""
        return {key: setting.default for key, setting in self.root.items()}

    def typed(self, owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, each value in its declared type. owner: whose settings they are, for the message of SettingError."""
        made = {}
        for key, value in given.items():
            if key not in self.root:
                raise SettingError(f"{owner} has no setting {key!r}{nearest(key, self.root) or '; it takes none'}")
            try:
                made[key] = self.root[key].typed(value)
            except SettingError as error:
                raise SettingError(f"{owner}: {key} {error}") from None
        if made:  # the defaults go together, and a plan asks for each cell
            self._related(owner, made)
        return made

    def _related(self, owner: str, given: Mapping[str, Any]) -> None:
        """Raises SettingError for two that do not go together."""
        for key, setting in self.root.items():
            if not (setting.up_to or setting.beside):
                continue
            other = setting.up_to or setting.beside
            one, two = (given.get(name, self.root[name].default) for name in (key, other))
            if setting.up_to and one > two:
                raise SettingError(f"{owner}: {key} {one!r} must not be above {other} {two!r}")
            if setting.beside and one + two > 1:
                raise SettingError(f"{owner}: {key} {one!r} and {other} {two!r} together exceed 1")

    def overrides(self, owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` in canonical form, without what equals its default. Raises SettingError."""
        made = plain(self.typed(owner, given))
        return {key: value for key, value in made.items() if value != plain(self.root[key].default)}

    def complete(self, owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting with its value in force. Raises SettingError."""
        return {**self.defaults, **self.typed(owner, given)}


def _setting(field: FieldInfo) -> Setting:
    """A field of a pydantic model: its default, description, bounds, and the values of a Literal."""
    default = field.get_default(call_default_factory=True)
    default = None if default is PydanticUndefined else default
    extra: Mapping[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    bounds = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(limit, name)
    }
    return Setting(
        default=float(default) if field.annotation is float and isinstance(default, int) else default,
        help=field.description or "",
        up_to=extra.get("up_to", ""),
        beside=extra.get("beside", ""),
        choices=get_args(field.annotation) if get_origin(field.annotation) is Literal else (),
        **bounds,
    )


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _as(default: Any, value: Any) -> Any:
    """`value` in the type of `default`. Raises TypeError, or OverflowError."""
    if default is None:
        return value
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, int):
        fits = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        value = int(value) if fits else value
    elif isinstance(default, float):
        fits = isinstance(value, int | float)
        value = float(value) if fits else value
    else:
        kind = next((kind for kind in (str, Mapping, list | tuple) if isinstance(default, kind)), object)
        fits = isinstance(value, kind)
    if not fits:
        raise TypeError
    return value
