"""One rule of settings for the matrix file, the worker and the pages."""

import contextlib
import json

import pytest
from pydantic import BaseModel, Field

from nmbench._util.settings import SettingError, Settings
from nmbench.plan.cell import Cell
from nmbench.plan.describe import spec_of
from nmbench.sparsity import NMPattern
from nmbench.sparsity.methods import load, names
from nmbench.task import Metric, Task


class About(BaseModel):
    at: int = Field(0, ge=0, le=9, description="steps before")
    rate: float = Field(1, gt=0, lt=2)


KINDS = Settings.declared({"flag": False, "name": "x", "list": [1.5], "any": None, "more": {"a": 1}}, About)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"at": 5.5}, "at must be like 0, not 5.5"),
        ({"at": True}, "at must be like 0, not True"),
        ({"at": -1}, "at must be at least 0 and at most 9, not -1"),
        ({"at": "1"}, "at must be like 0, not '1'"),
        ({"at": float("inf")}, "at must be finite, not inf"),
        ({"rate": 2}, "rate must be above 0 and below 2, not 2"),
        ({"rate": 10**400}, "rate must be like 1.0"),
        ({"flag": 1}, "flag must be like False, not 1"),
        ({"name": 1}, "name must be like 'x', not 1"),
        ({"list": 1.5}, "list must be like [1.5], not 1.5"),
        ({"list": [1.0, float("nan")]}, "list must be finite, not [1.0, nan]"),
        ({"more": {"a": float("-inf")}}, "more must be finite"),
        ({"attt": 1}, "has no setting 'attt'; did you mean 'at'?"),
    ],
)
def test_a_wrong_setting_is_named_and_told_alike_before_and_after_json(given, says):
    for settings in (KINDS, Settings.model_validate(json.loads(json.dumps(KINDS.model_dump(mode="json"))))):
        for ask in (settings.overrides, settings.complete):
            with pytest.raises(SettingError) as error:
                ask("it", given)
            assert str(error.value).startswith("it")
            assert says in str(error.value)


def test_values_come_in_their_declared_type_and_are_recorded_in_canonical_form():
    given = {"at": 5.0, "rate": 1, "list": (2.0,), "any": "x"}
    complete = KINDS.complete("it", given)
    assert {key: (value, type(value)) for key, value in complete.items() if key in ("at", "rate")} == {
        "at": (5, int),
        "rate": (1.0, float),
    }
    assert KINDS.overrides("it", given) == {"at": 5, "list": [2], "any": "x"}, "rate is at its default"


class Toy(Task):
    name = "toy"
    metrics = (Metric("a"),)
    models = ("m",)
    scales = {"smoke": {"steps": 20, "lr": 1.0}}  # noqa: RUF012 - read only


def other(setting):
    """Another value than the default, where one is near; whole numbers as floats, which a TOML file may hold."""
    if isinstance(setting.default, bool) or not isinstance(setting.default, int | float):
        return setting.default
    for value in (float(setting.default) + 5, float(setting.default) / 2, float(setting.default)):
        with contextlib.suppress(SettingError):
            setting.typed(value)
            return value
    raise AssertionError(f"{setting} does not take its own default")


@pytest.mark.parametrize("method", names())
def test_what_a_plan_lets_through_the_method_takes(method):
    """`at = 5.0` once passed `nmbench plan` and failed the cell."""
    declared = load(method).declared()
    whole = {key: other(setting) for key, setting in declared.root.items()}
    hyper = declared.overrides("it", whole)
    assert load(method)(**hyper).hyper == load(method)(**whole).hyper == declared.complete("it", whole)


def test_what_a_plan_lets_through_the_task_gets_as_it_declared_it():
    train = Toy.declared("smoke").overrides("toy", {"steps": 5.0, "lr": 2})
    cell = Cell("toy", "m", "smoke", NMPattern(2, 4), "ste", 0, train)
    seen = spec_of(Cell.from_dict(json.loads(json.dumps(cell.to_dict()))), Toy(), "cpu").train
    assert seen == {"steps": 5, "lr": 2.0}
    assert [type(value) for value in seen.values()] == [int, float]


def test_settings_of_another_version_of_a_task_are_told():
    with pytest.raises(SettingError, match="task 'toy' has no setting 'gone'"):
        spec_of(Cell("toy", "m", "smoke", train={"gone": 1}), Toy(), "cpu")
