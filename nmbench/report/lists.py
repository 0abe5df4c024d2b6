"""The parts of a report that are lists: layers left dense, failures, unreadable records.

Each function returns markdown, or "" where there is nothing to list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from nmbench.record import Record
from nmbench.report.frame import Unreadable
from nmbench.report.words import code, percent, plural, short, si, table, text

__all__ = ["commands", "failures", "layers_left_dense", "unreadable"]

_SHOWN = 6


def layers_left_dense(records: Iterable[Record]) -> str:
    """Per model, the candidate layers that no mask was put on, by reason, with their share of the candidate weights."""
    reasons: dict[tuple[str, str], dict[str, int]] = {}
    patterns: dict[tuple[str, str], set[str]] = {}
    totals: dict[str, int] = {}
    seen: dict[str, set[str]] = {}
    for record in records:
        audit, model = record.get("audit") or {}, str(record["cell"]["model"])
        if not audit.get("pattern"):
            continue
        layers: list[dict[str, Any]] = audit.get("layers") or []
        totals[model] = max(totals.get(model, 0), sum(map(_weights, layers)))
        seen.setdefault(model, set()).add(str(audit["pattern"]))
        for layer in layers:
            if layer.get("role") == "dense":
                key = (model, str(layer.get("reason") or "no reason recorded"))
                reasons.setdefault(key, {})[str(layer.get("name"))] = _weights(layer)
                patterns.setdefault(key, set()).add(str(audit["pattern"]))
    body = [
        [
            text(model),
            "all" if patterns[model, why] == seen[model] else text(", ".join(sorted(patterns[model, why]))),
            text(why),
            _names(list(layers)),
            _share(sum(layers.values()), totals[model]),
        ]
        for (model, why), layers in sorted(reasons.items())
    ]
    return table(["Model", "Patterns", "Why", "Layers", "Weights"], body, "llllr") if body else ""


def failures(attempts: pd.DataFrame) -> str:
    """The cells whose counting attempt did not end `ok`: kind and first line of the message."""
    body = [
        [text(task), code(_slug(path)), status, code(short(_message(status, kind, message)))]
        for task, path, status, kind, message in _columns(
            attempts, "task", "path", "status", "error_kind", "error_message"
        )
    ]
    return table(["Task", "Cell", "How it ended", "Message"], body) if body else ""


def commands(attempts: pd.DataFrame) -> list[str]:
    """The line that runs each of these cells again, where its record has one."""
    return [" ".join(command.split()) for (command,) in _columns(attempts, "command") if command]


def unreadable(files: Iterable[Unreadable]) -> str:
    """Record files that could not be used, with the reason."""
    body = [[code(file.path), code(short(file.reason))] for file in files]
    return table(["Record", "Why it could not be read"], body) if body else ""


def _columns(attempts: pd.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    columns = [attempts[name].astype(object).where(attempts[name].notna(), None).tolist() for name in names]
    return list(zip(*columns, strict=True))


def _slug(path: str) -> str:
    """The cell's folder name; the attempt's path ends in <cell>/attempt-<k>."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else path


def _message(status: str, kind: str | None, message: str | None) -> str:
    if kind and kind != status:
        return f"{kind}: {message}" if message else kind
    return message or ""


def _weights(layer: dict[str, Any]) -> int:
    return math.prod(layer.get("shape") or [0])


def _names(names: list[str]) -> str:
    shown = ", ".join(code(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _share(weights: int, total: int) -> str:
    return f"{si(weights)} ({percent(weights / total)})" if total else plural(weights, "weight")
