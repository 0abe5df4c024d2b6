"""The parent's side of plugins: which tasks and methods there are, learnt without importing any of them.

Entry points name them; `python -m nmbench.worker --describe` imports one in a process of its own and prints its
declarations, which are cached by the distribution's version and a hash of its sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from nmbench._util.child import ask
from nmbench._util.errors import UsageError
from nmbench._util.paths import cache_dir
from nmbench.plan.sources import core_hash, import_hash, plugin_hash

__all__ = ["Catalogue", "Plugin", "catalogue", "code_hash"]

_DESCRIBE_TIMEOUT = 120  # seconds; importing a large engine from a cold disk takes long


@dataclass(frozen=True)
class Plugin:
    """A task or a method. status: "ok", "unavailable", "import", "invalid" or "duplicate"; `reason` says more."""

    name: str
    reference: str
    distribution: str
    version: str
    source: str
    status: str = "ok"
    reason: str = ""
    declaration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalogue:
    """All tasks and methods by name, and the rows that share a name with another (`duplicates`)."""

    tasks: dict[str, Plugin]
    methods: dict[str, Plugin]
    duplicates: list[Plugin]


def _ask_worker(arguments: list[str]) -> dict[str, Any]:
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    reply = ask("nmbench.worker", *arguments, timeout=_DESCRIBE_TIMEOUT, environment=environment)
    return reply.answer or {"status": "import", "reason": f"importing it failed: {reply.ending}"}


def _cached(key: str, arguments: list[str]) -> Any:
    path = cache_dir() / "describe" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        pass
    answer = _ask_worker(arguments)
    said = [answer, *answer.get("methods", {}).values()]
    if all(
        about.get("status", "ok") == "ok" for about in said
    ):  # a failure may be mended by installing something, so ask again
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.{hashlib.sha256(os.urandom(8)).hexdigest()[:6]}")
            temporary.write_text(json.dumps(answer))
            temporary.replace(path)
        except OSError:
            pass  # no cache folder: slower, nothing else
    return answer


def code_hash(task: Plugin, method: Plugin | None = None) -> str:
    """Hash of the code that a cell executes: nmbench's part, the task's, and the method's if nmbench has it not.

    Results of another hash are stale, and half of a training by another is not gone on with.
    """
    return "-".join(part for part in (core_hash(), task.source, method.source if method else "") if part)


def _own_hash() -> str:
    """What a description depends on besides the plugin."""
    return import_hash("nmbench.plan.describe", "nmbench.worker.__main__", "nmbench._util.child")


def _plugin(point: EntryPoint) -> Plugin:
    distribution = point.dist.name if point.dist else "?"
    version = point.dist.version if point.dist else "?"
    return Plugin(point.name, point.value.split("[")[0].strip(), distribution, version, "")


def _describe(plugin: Plugin) -> Plugin:
    source = plugin_hash(plugin.reference)
    key = "/".join([plugin.reference, plugin.distribution, plugin.version, source, _own_hash(), sys.version])
    told = _cached(key, ["--describe", plugin.reference])
    name = told.get("name", plugin.name)
    status, reason = told.get("status", "import"), told.get("reason", "")
    if plugin.name and name != plugin.name:
        status, reason = "invalid", f"its entry point says {plugin.name!r} but its class is named {name!r}"
        name = plugin.name
    if told.get("status") == "ok":
        status, reason = _requirements_now(told, status, reason)
    fallback = Path(plugin.reference[5:]).stem if plugin.reference.startswith("path:") else ""
    return Plugin(name or fallback, plugin.reference, plugin.distribution, plugin.version, source, status, reason, told)


def _requirements_now(told: dict[str, Any], status: str, reason: str) -> tuple[str, str]:
    """A cached "ok" may be out of date: something it requires was removed since."""
    from nmbench.plan.describe import missing_requirements

    missing = missing_requirements(tuple(told.get("requires", ())))
    if missing and status == "ok":
        return "unavailable", f"needs {', '.join(missing)}; {told.get('install', '')}"
    return status, reason


def _folder_plugins(folder: Path) -> list[Plugin]:
    if not folder.is_dir():
        raise UsageError(f"--plugins {folder}: there is no such folder")
    files = [p for p in sorted(folder.glob("*.py")) if not p.name.startswith("_")]
    files += [p for p in sorted(folder.glob("*/__init__.py"))]
    return [Plugin("", f"path:{p.absolute()}", f"folder {folder.name}", "", "") for p in files]


def _methods() -> dict[str, Plugin]:
    points = [_plugin(p) for p in entry_points(group="nmbench.methods")]
    key = "/".join([f"{p.name}={p.reference}@{p.version}:{plugin_hash(p.reference)}" for p in points])
    told = _cached("methods/" + key + _own_hash() + sys.version, ["--describe-methods"])
    if told.get("status") == "import":
        raise UsageError(f"the methods cannot be described: {told['reason']}")
    found: dict[str, Plugin] = {}
    for point in points:
        about = told["methods"].get(point.name, {"status": "import", "reason": "not found by the worker"})
        found.setdefault(
            point.name,
            Plugin(
                point.name,
                point.reference,
                point.distribution,
                point.version,
                plugin_hash(point.reference),
                about["status"],
                about["reason"],
                about,
            ),
        )
    return found


def catalogue(plugins: Path | None = None) -> Catalogue:
    """Everything that is installed, and the tasks in the folder `plugins`. Raises UsageError if that is no folder.

    Two tasks of one name: nmbench's own, else the first by distribution name, keeps it; the others are `duplicates`.
    """
    tasks = [_plugin(p) for p in entry_points(group="nmbench.tasks")]
    tasks.sort(key=lambda p: (p.distribution != "nmbench", p.distribution, p.reference))
    tasks += _folder_plugins(plugins) if plugins else []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        later = pool.submit(_methods)
        described = list(pool.map(_describe, tasks))
        methods = later.result()
    by_name: dict[str, Plugin] = {}
    duplicates = []
    for plugin in described:
        if plugin.name in by_name:
            first = by_name[plugin.name].distribution
            reason = f"the name {plugin.name!r} is taken by {first}"
            duplicates.append(Plugin(**{**vars(plugin), "status": "duplicate", "reason": reason}))
        else:
            by_name[plugin.name] = plugin
    return Catalogue(by_name, methods, duplicates)
