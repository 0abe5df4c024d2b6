"""Parts of the reference pages that are read off the code, so that they cannot say anything else.

PARTS    name -> function that returns markdown

    task-attributes                                   the declarations in nmbench.task.Task
    record-keys, record-statuses, record-example      nmbench.records.schema and sections, a committed record
    frame-columns                                     nmbench.records.columns
    matrix-keys, grid-keys                            the JSON schema of nmbench.plan.matrix
    commands                                          what each command says with --help
    methods, pruners                                  the entry points in nmbench.methods, nmbench.pruners
    task-, method-, pruner-, backend-checks           nmbench.testing
    tasks                                             what nmbench's own tasks declare
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

__all__ = ["PARTS"]

_ROOT = Path(__file__).resolve().parent.parent


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(cell: str) -> str:
    """A bar ends a cell, but for one in code."""
    return re.sub(r"`[^`]*`|\|", lambda found: found[0] if found[0] != "|" else "\\|", cell)


def _code(value: Any) -> str:
    return f"`{value}`" if value not in ("", None) else ""


def _json(value: Any) -> str:
    return _code(json.dumps(value))


# -- the contract -------------------------------------------------------------------------------------------------
def task_attributes() -> str:
    """Class attributes of Task, with the `#:` comments above them."""
    from nmbench.task import Task

    rows: list[list[str]] = []
    begun = False  # a row, by a comment or a blank line; attributes that share a comment share it here too
    for line in inspect.getsource(Task).splitlines():
        if comment := re.fullmatch(r" {4}#: (.*)", line):
            rows.append(["", comment[1]])
            begun = True
        elif found := re.fullmatch(r" {4}(\w+): ClassVar\[(.*)\] = (.*)", line):
            if not begun:
                rows.append(["", ""])
                begun = True
            rows[-1][0] += f"`{found[1]}: {found[2]} = {found[3]}`<br>"
        else:
            begun = False
    assert rows, "the class attributes of Task cannot be read"
    return _table(["Attribute", "What"], ([names.removesuffix("<br>"), said] for names, said in rows))


# -- records ------------------------------------------------------------------------------------------------------
def record_keys() -> str:
    """The keys of a record, and those of each section, as nmbench.records.schema documents them."""
    from nmbench.records.schema import Record

    rows = [
        [_code(name), "always" if field.is_required() else "if it got that far", field.description or ""]
        for name, field in Record.model_fields.items()
    ]
    return "\n\n".join([_table(["Key", "Present", "What"], rows), *_sections(Record, "")])


def _sections(model: Any, at: str) -> Iterator[str]:
    from nmbench.records import sections

    for name, field in model.model_fields.items():
        listed = "list[" in str(field.annotation)
        for section in re.findall(r"nmbench\.records\.sections\.(\w+)", str(field.annotation)):
            inner, place = getattr(sections, section), f"{at}{name}{'[]' * listed}"
            keys = ([_code(key), part.description or ""] for key, part in inner.model_fields.items())
            yield f"### `{place}`\n\n{inspect.getdoc(inner)}\n\n{_table(['Key', 'What'], keys)}"
            yield from _sections(inner, f"{place}.")


def record_statuses() -> str:
    """How an attempt can end."""
    from nmbench.records.schema import Status

    return _table(["Status", "Meaning"], ([_code(str(status)), status.words] for status in Status))


def _shortened(value: Any) -> Any:
    if isinstance(value, list) and len(value) > 3:
        return [_shortened(part) for part in value[:2]] + [f"... {len(value) - 2} more"]
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    if isinstance(value, dict):
        kept = list(value.items())
        more = {"...": f"{len(kept) - 2} more"} if len(kept) > 25 else {}
        return {key: _shortened(part) for key, part in kept[: 2 if more else None]} | more
    return value


def record_example() -> str:
    """A committed record of a sparse cell, long lists shortened."""
    paths = sorted(_ROOT.glob("results/reference/*/*/*sr-ste*/attempt-*/record.json"))
    assert paths, "there is no committed record below results/reference"
    shown = json.dumps(_shortened(json.loads(paths[0].read_text(encoding="utf-8"))), indent=2)
    return f"`{paths[0].relative_to(_ROOT)}`, long lists shortened:\n\n```json\n{shown}\n```"


def frame_columns() -> str:
    """The fixed columns of the results frame, in their order."""
    from nmbench.records.columns import COLUMNS

    rows = ([_code(column.name), _code(column.dtype), column.description] for column in COLUMNS.values())
    return _table(["Column", "Type", "What"], rows)


# -- matrices -----------------------------------------------------------------------------------------------------
def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"] if one.get("type") != "null")
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return {"object": "table"}.get(str(field.get("type")), str(field.get("type")))


def _limits(field: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "minItems": "at least {} of them",
        "pattern": "`{}`",
    }
    everywhere = [field, *field.get("anyOf", ()), *(one.get("items", {}) for one in [field, *field.get("anyOf", ())])]
    return ", ".join(text.format(one[key]) for one in everywhere for key, text in words.items() if key in one)


def _keys(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        [
            _code(name),
            _type(field),
            "must be given" if name in required else "" if field.get("default") is None else _json(field["default"]),
            _limits(field),
        ]
        for name, field in schema["properties"].items()
    ]
    return _table(["Key", "Type", "Default", "Limits"], rows)


def matrix_keys() -> str:
    """Keys of a matrix file."""
    from nmbench.plan.matrix import Matrix

    return _keys(Matrix.model_json_schema())


def grid_keys() -> str:
    """Keys of a [[grid]] table."""
    from nmbench.plan.matrix import Grid

    return _keys(Grid.model_json_schema())


# -- commands -----------------------------------------------------------------------------------------------------
def commands() -> str:
    """The help text of every command."""
    from typer.testing import CliRunner

    from nmbench.cli import app

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--help"], prog_name="nmbench", terminal_width=86)
        assert done.exit_code == 0, done.output
        return f"```text\n{done.output.strip()}\n```"

    verbs = [command.name or "" for command in app.registered_commands]
    return "\n\n".join([said(), *(f"## {verb}\n\n{said(verb)}" for verb in verbs)])


# -- methods, checks, tasks ---------------------------------------------------------------------------------------
def methods() -> str:
    """nmbench's own methods."""
    rows = []
    for point in _own("nmbench.methods"):
        cls = point.load()
        said = " ".join((inspect.getdoc(cls) or "").split())
        rows.append([_code(point.name), said, _settings(cls.declared().root), str(cls.phases)])
    return _table(["Method", "What", "Settings and defaults", "Training passes"], rows)


def pruners() -> str:
    """nmbench's own pruners, and what each asks of calibration."""
    rows = []
    for point in _own("nmbench.pruners"):
        cls = point.load()
        said = " ".join((inspect.getdoc(cls) or "").split())
        rows.append([_code(point.name), said, ", ".join(sorted(cls.needs)), _settings(cls.declared().root)])
    return _table(["Pruner", "What", "Needs", "Settings and defaults"], rows)


def _settings(settings: Mapping[str, Any]) -> str:
    return "; ".join(
        ": ".join(filter(None, [f"`{key} = {setting.default}`", _about(setting)])) for key, setting in settings.items()
    )


def _about(setting: Any) -> str:
    """Help and range of a setting."""
    return ", ".join(filter(None, [setting.help, setting.range]))


def _own(group: str) -> list[Any]:
    return [point for point in entry_points(group=group) if point.dist and point.dist.name == "nmbench"]


def _checks(of: Sequence[Any]) -> str:
    return _table(["Check", "Promise"], ([_code(one.name), one.promise] for one in of))


def task_checks() -> str:
    """Checks of a task, in their order."""
    from nmbench.testing.isolation import ISOLATION_CHECKS
    from nmbench.testing.task_checks import TASK_CHECKS

    return _checks([*TASK_CHECKS, *ISOLATION_CHECKS])


def method_checks() -> str:
    """Checks of a method, in their order."""
    from nmbench.testing.method_checks import METHOD_CHECKS

    return _checks(METHOD_CHECKS)


def pruner_checks() -> str:
    """Checks of a pruner, in their order."""
    from nmbench.testing.pruner_checks import PRUNER_CHECKS

    return _checks(PRUNER_CHECKS)


def backend_checks() -> str:
    """Checks of a backend of nmbench.kernels, in their order."""
    from nmbench.testing.backend_checks import BACKEND_CHECKS

    return _checks(BACKEND_CHECKS)


def tasks() -> str:
    """Declarations of nmbench's own tasks: metrics, models, scales with every setting."""
    return "\n\n".join(_task(point.load()) for point in _own("nmbench.tasks"))


def _task(cls: Any) -> str:
    metrics = [
        [
            _code(metric.name) + (" (primary)" if metric is cls.metrics[0] else ""),
            metric.unit,
            "higher" if metric.higher_is_better else "lower",
            f"{metric.margin:g}" if metric.margin else "",
        ]
        for metric in cls.metrics
    ]
    names = list(dict.fromkeys(key for settings in cls.scales.values() for key in settings))
    settings = [
        [
            _code(key),
            *(_json(settings[key]) if key in settings else "" for settings in cls.scales.values()),
            next((_about(one.root[key]) for one in map(cls.declared, cls.scales) if key in one.root), ""),
        ]
        for key in names
    ]
    more = ", and other names that its `build` knows" if cls.open_models else ""
    family = cls.__module__.split(".")[1]
    page = f" [Read more](../tasks/{family}.md)." if (_ROOT / "tasks" / family / "README.md").exists() else ""
    return "\n\n".join(
        [
            f"## {cls.name}",
            " ".join((inspect.getdoc(cls) or "").split()) + page,
            f"Needs: {_code(cls.install)}" if cls.install else "",
            _table(["Metric", "Unit", "Better", "Margin"], metrics),
            f"Models: {', '.join(map(_code, cls.models))}{more}.",
            '??? note "Every setting, with its default at each scale"\n\n'
            + "\n".join(f"    {line}" for line in _table(["Setting", *cls.scales, "Meaning"], settings).splitlines()),
        ]
    )


PARTS: dict[str, Callable[[], str]] = {
    part.__name__.replace("_", "-"): part
    for part in (
        task_attributes,
        record_keys,
        record_statuses,
        record_example,
        frame_columns,
        matrix_keys,
        grid_keys,
        commands,
        methods,
        task_checks,
        method_checks,
        pruners,
        pruner_checks,
        backend_checks,
        tasks,
    )
}
