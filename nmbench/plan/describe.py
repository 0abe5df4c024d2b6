"""The worker's side of plugins: import a task or the methods, check them, and declare them as JSON."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ValidationError

from nmbench._util.errors import first_line
from nmbench._util.settings import SettingError
from nmbench.contract.spec import Metric, Spec
from nmbench.contract.task import CONTRACT_VERSION, Task
from nmbench.plan.cell import Cell
from nmbench.plan.declarations import Description, MethodDeclaration, PluginStatus, TaskDeclaration
from nmbench.plan.refusals import refusals

if TYPE_CHECKING:
    from nmbench.sparsity import Method


class PluginError(Exception):
    """The plugin imports but is no valid task; the text says why."""


def _module_from(path: Path) -> ModuleType:
    # a name of its own for each file, so that two plugins called task.py do not meet
    name = f"nmbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path.name} cannot be loaded as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _class_in(module: ModuleType) -> Any:
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    tasks = [c for c in own if issubclass(c, Task) and c.name]
    if len(tasks) != 1:
        raise PluginError(f"the file must define exactly one Task with a name; it defines {len(tasks)}")
    return tasks[0]


def _resolve(reference: str) -> Any:
    if reference.startswith("path:"):
        return _class_in(_module_from(Path(reference[5:])))
    module, _, attribute = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _check(cls: Any) -> None:
    if not (inspect.isclass(cls) and issubclass(cls, Task)):
        raise PluginError(f"{getattr(cls, '__name__', cls)!r} is not a subclass of nmbench.task.Task")
    if cls.contract_version != CONTRACT_VERSION:
        raise PluginError(f"written for contract {cls.contract_version}; this nmbench has contract {CONTRACT_VERSION}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", cls.name or ""):
        raise PluginError(f"its name {cls.name!r} must be lower-case letters, digits and dashes")
    if not cls.metrics or not all(isinstance(m, Metric) for m in cls.metrics):
        raise PluginError("it declares no metrics (a tuple of nmbench.task.Metric, the primary one first)")
    if not cls.models or not all(isinstance(m, str) for m in cls.models):
        raise PluginError("it declares no models")
    if not cls.scales or not all(isinstance(s, dict) for s in cls.scales.values()):
        raise PluginError("it declares no scales (scale name -> settings)")


def load_task(reference: str) -> Task:
    """Import and check a task. Raises PluginError, or whatever its import raises."""
    cls = _resolve(reference)
    _check(cls)
    task: Task = cls()
    return task


def missing_requirements(requires: tuple[str, ...]) -> list[str]:
    """Those of `requires` that are not installed, or not in a version that fits.

    Each is a PEP 508 requirement, or several with "|" between them, of which one is enough.
    """
    missing = []
    for text in requires:
        lacking = [why for one in text.split("|") if (why := _missing(one.strip()))]
        if len(lacking) == len(text.split("|")):
            missing.append(" or ".join(lacking))
    return missing


def _missing(text: str) -> str:
    """The requirement and what is wrong with it, or "" if it is met."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise PluginError(f"requires: {text!r} is no requirement ({error})") from error
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return text
    return "" if wanted.specifier.contains(version, prereleases=True) else f"{text} (installed: {version})"


def spec_of(cell: Cell, task: Task, device: str) -> Spec:
    """What the task is told of the cell: the scale's settings with the cell's own on top, each in its declared type.

    Raises SettingError if the task does not take them.
    """
    settings = task.declared(cell.scale).complete(f"task {cell.task!r}", cell.train)
    return Spec(cell.task, cell.model, cell.scale, cell.seed, settings, device)


# -- answers, as JSON -----------------------------------------------------------------------------------------------
def describe_task(reference: str) -> dict[str, Any]:
    """A Description of the task. Never raises."""
    try:
        task = load_task(reference)
        missing = missing_requirements(task.requires)
        hint = task.install or f"pip install {' '.join(repr(t) for t in task.requires)}"
        declaration = TaskDeclaration(
            name=task.name,
            metrics=task.metrics,
            models=tuple(task.models),
            default_models=dict(task.default_models),
            open_models=task.open_models,
            scales={scale: task.declared(scale) for scale in task.scales},
            contract=task.contract_version,
            requires=tuple(task.requires),
            install=hint,
            diagnoses=type(task).diagnosis is not Task.diagnosis,
            logits=type(task).logits is not Task.logits,
        )
        answer = Description[TaskDeclaration](declaration=declaration)
        if missing:
            answer.status, answer.reason = PluginStatus.UNAVAILABLE, f"needs {', '.join(missing)}; {hint}"
        return answer.model_dump(mode="json")
    except (PluginError, SettingError) as error:
        return _refused(PluginStatus.INVALID, str(error))
    except ValidationError as error:
        first = error.errors()[0]
        return _refused(PluginStatus.INVALID, f"its {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except BaseException as error:  # a plugin may raise anything at import, SystemExit too
        return _refused(PluginStatus.IMPORT, first_line(error))


def _refused(status: PluginStatus, reason: str) -> dict[str, Any]:
    return Description[TaskDeclaration](status=status, reason=reason).model_dump(mode="json")


def diagnose_task(reference: str) -> dict[str, Any]:
    """{"lines": [{"ok", "text"}]}: what the task says of this installation. Never raises."""
    try:
        return {"lines": [vars(line) for line in load_task(reference).diagnosis()]}
    except BaseException as error:
        return {"lines": [{"ok": False, "text": f"its diagnosis failed: {first_line(error)}"}]}


class MethodDescriptions(BaseModel):
    """Of all methods, by name."""

    methods: dict[str, Description[MethodDeclaration]]


def describe_methods() -> dict[str, Any]:
    """MethodDescriptions, pruners among them; a broken one does not stop the others."""
    from nmbench.sparsity import methods
    from nmbench.sparsity.pruning import names

    known = {name: _pruner(name) for name in names()}
    known |= {name: _method(methods.load, name) for name in methods.names()}
    return MethodDescriptions(methods=known).model_dump(mode="json")


def _pruner(name: str) -> Description[MethodDeclaration]:
    """A pruner as a method: the dense twin's training, then the pruner."""
    from nmbench.sparsity.pruning.recipe import declared

    try:
        return Description[MethodDeclaration](declaration=MethodDeclaration(settings=declared(name), starts_dense=True))
    except Exception as error:
        return Description[MethodDeclaration](status=PluginStatus.IMPORT, reason=first_line(error))


def _method(load: Callable[[str], type[Method]], name: str) -> Description[MethodDeclaration]:
    from nmbench.sparsity.pruning.recipe import with_permutation

    try:
        cls = load(name)
        declaration = MethodDeclaration(
            settings=with_permutation(cls),
            phases=cls.phases,
            sparse=cls.sparse,
            starts_dense=cls.starts_dense,
            layerwise=cls.layerwise,
            refusals=tuple(refusals(cls().refuses)),
        )
        return Description[MethodDeclaration](declaration=declaration)
    except Exception as error:
        return Description[MethodDeclaration](status=PluginStatus.IMPORT, reason=first_line(error))
