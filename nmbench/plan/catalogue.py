"""The parent's side of plugins: which tasks and methods there are, learnt without importing any of them.

Entry points name them; `python -m nmbench.worker --describe` imports one in a process of its own and prints its
declarations, which are cached by the distribution's version and a hash of its sources.
"""

import functools
import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nmbench._util.child import ask
from nmbench._util.errors import UsageError
from nmbench._util.files import write_json
from nmbench._util.paths import cache_dir
from nmbench.plan.declarations import (
    Description,
    MethodDeclaration,
    MethodPlugin,
    Plugin,
    PluginStatus,
    TaskDeclaration,
    TaskPlugin,
)
from nmbench.plan.describe import MethodDescriptions, missing_requirements
from nmbench.plan.sources import core_hash, import_hash, plugin_hash

_LOG = logging.getLogger(__name__)
_DESCRIBE_TIMEOUT = 120  # seconds; importing a large engine from a cold disk takes long
_PATIENCE_S = 600  # for so long an import that hung is not tried again
_QUIET = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

_Answer = TypeVar("_Answer", bound=BaseModel)


@dataclass(frozen=True)
class Catalogue:
    """All tasks and methods by name, and the rows that share a name with another (`duplicates`)."""

    tasks: dict[str, TaskPlugin]
    methods: dict[str, MethodPlugin]
    duplicates: list[TaskPlugin]


def catalogue(plugins: Path | None = None) -> Catalogue:
    """Everything that is installed, and the tasks in the folder `plugins`. Raises UsageError if that is no folder.

    Two tasks of one name: nmbench's own, else the first by distribution name, keeps it; the others are `duplicates`.
    """
    tasks: list[TaskPlugin] = [_plugin(point) for point in entry_points(group="nmbench.tasks")]
    tasks.sort(key=lambda p: (p.distribution != "nmbench", p.distribution, p.reference))
    tasks += _folder_plugins(plugins) if plugins else []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        later = pool.submit(_methods)
        described = list(pool.map(_described, tasks))
        methods = later.result()
    by_name: dict[str, TaskPlugin] = {}
    duplicates = []
    for plugin in described:
        if plugin.name in by_name:
            reason = f"the name {plugin.name!r} is taken by {by_name[plugin.name].distribution}"
            duplicates.append(replace(plugin, status=PluginStatus.DUPLICATE, reason=reason))
        else:
            by_name[plugin.name] = plugin
    return Catalogue(by_name, methods, duplicates)


def code_hash(task: TaskPlugin, method: MethodPlugin | None = None) -> str:
    """Hash of the code that a cell executes: nmbench's part, the task's, and the method's if nmbench has it not.

    Results of another hash are stale, and half of a training by another is not gone on with.
    """
    return "-".join(part for part in (core_hash(), task.source, method.source if method else "") if part)


def diagnoses(task: TaskPlugin) -> list[tuple[bool, str]]:
    """What the task itself says of this installation: whether it is well, and a line; asked anew each time."""
    reply = ask("nmbench.worker", "--diagnose", task.reference, timeout=_DESCRIBE_TIMEOUT, environment=_QUIET)
    if reply.answer is None:
        return [(False, f"its diagnosis failed: {reply.ending}")]
    return [(bool(line["ok"]), str(line["text"])) for line in reply.answer["lines"]]


# -- asking, and keeping the answer ---------------------------------------------------------------------------------
def _asked(model: type[_Answer], key: str, arguments: list[str], keep: Callable[[_Answer], bool]) -> _Answer | str:
    """What a worker answers to `arguments`, from the cache if it was kept under `key`; or why there is no answer."""
    path = cache_dir() / "describe" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        pass
    hung = path.with_suffix(".late")  # so that an import that hangs does not take minutes of every command
    if _is_young(hung):
        return f"importing it took more than {_DESCRIBE_TIMEOUT} s; remove {hung} to try again at once"
    reply = ask("nmbench.worker", *arguments, timeout=_DESCRIBE_TIMEOUT, environment=_QUIET)
    if reply.late:
        _kept(hung, {"ending": reply.ending})
    try:
        answer = model.model_validate(reply.answer)
    except ValidationError:
        return f"importing it failed: {reply.ending}"
    if keep(answer):  # a failure may be mended by installing something, so ask again
        _kept(path, reply.answer or {})
    return answer


def _is_young(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _PATIENCE_S
    except OSError:
        return False


def _kept(path: Path, answer: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, answer)
    except (OSError, ValueError) as error:
        _LOG.info("the description is not kept: %s", error)


@functools.cache
def _own_hash() -> str:
    """What a description depends on besides the plugin."""
    return import_hash("nmbench.plan.describe", "nmbench.worker.__main__", "nmbench._util.child") + sys.version


# -- tasks ----------------------------------------------------------------------------------------------------------
def _plugin(point: EntryPoint) -> Plugin[Any]:
    reference = point.value.split("[")[0].strip()
    if point.dist is None:
        return Plugin(point.name, reference, "?", "?")
    told = point.dist.metadata  # which is parsed anew each time it is asked for
    return Plugin(point.name, reference, told["Name"], told["Version"])


def _folder_plugins(folder: Path) -> list[TaskPlugin]:
    if not folder.is_dir():
        raise UsageError(f"--plugins {folder}: there is no such folder")
    files = [p for p in sorted(folder.glob("*.py")) if not p.name.startswith("_")]
    files += [p for p in sorted(folder.glob("*/__init__.py"))]
    return [Plugin("", f"path:{p.absolute()}", f"folder {folder.name}", "") for p in files]


def _described(plugin: TaskPlugin) -> TaskPlugin:
    source = plugin_hash(plugin.reference)
    key = "/".join([plugin.reference, plugin.distribution, plugin.version, source, _own_hash()])
    answer = _asked(Description[TaskDeclaration], key, ["--describe", plugin.reference], lambda it: it.status == "ok")
    if isinstance(answer, str):
        answer = Description[TaskDeclaration](status=PluginStatus.IMPORT, reason=answer)
    declared = answer.declaration
    plugin = replace(plugin, source=source, status=answer.status, reason=answer.reason, declaration=declared)
    if declared is None:
        return replace(plugin, name=plugin.name or Path(plugin.reference).stem)
    if plugin.name and declared.name != plugin.name:
        reason = f"its entry point says {plugin.name!r} but its class is named {declared.name!r}"
        return replace(plugin, status=PluginStatus.INVALID, reason=reason)
    plugin = replace(plugin, name=declared.name)
    if plugin.usable and (missing := missing_requirements(declared.requires)):  # removed since it was asked
        return replace(
            plugin, status=PluginStatus.UNAVAILABLE, reason=f"needs {', '.join(missing)}; {declared.install}"
        )
    return plugin


# -- methods --------------------------------------------------------------------------------------------------------
def _methods() -> dict[str, MethodPlugin]:
    """All methods and pruners by name, described by one process; of two that share a name the first."""
    groups = ("nmbench.methods", "nmbench.pruners")
    points: list[MethodPlugin] = [_plugin(point) for group in groups for point in entry_points(group=group)]
    points = [replace(point, source=plugin_hash(point.reference)) for point in points]
    key = "/".join([f"{p.name}={p.reference}@{p.version}:{p.source}" for p in points])
    answer = _asked(
        MethodDescriptions, f"methods/{key}{core_hash()}{_own_hash()}", ["--describe-methods"],
        lambda it: all(method.status == "ok" for method in it.methods.values()),
    )  # fmt: skip
    if isinstance(answer, str):
        raise UsageError(f"the methods cannot be described: {answer}")
    unknown = Description[MethodDeclaration](status=PluginStatus.IMPORT, reason="not found by the worker")
    found: dict[str, MethodPlugin] = {}
    for point in points:
        told = answer.methods.get(point.name, unknown)
        whole = replace(point, status=told.status, reason=told.reason, declaration=told.declaration)
        found.setdefault(point.name, whole)
    return found
