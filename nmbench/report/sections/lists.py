"""The tables of a report that are lists: layers left dense, failures, unreadable records.

Each function returns None where there is nothing to list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, percent, short, si
from nmbench.records.frame import Unreadable
from nmbench.records.schema import Record

__all__ = ["failures", "layers_left_dense", "unreadable"]

_SHOWN = 6
_WEIGHTS = "Weights are those of the layers named, with their share of all candidate weights of the model."


def layers_left_dense(records: Iterable[Record]) -> Table | None:
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
    columns = (
        Column("model", "Model"),
        Column("patterns", "Patterns"),
        Column("why", "Why"),
        Column("layers", "Layers"),
        Column("weights", "Weights", "r"),
    )
    rows = tuple(
        (
            Cell(model),
            Cell("all" if patterns[model, why] == seen[model] else ", ".join(sorted(patterns[model, why]))),
            Cell(why),
            # every name in CSV, some on a page
            Cell(_names(list(layers)), ", ".join(layers)),
            _share(sum(layers.values()), totals[model]),
        )
        for (model, why), layers in sorted(reasons.items())
    )
    return Table("layers-left-dense", "Layers left dense", columns, rows, (_WEIGHTS,)) if rows else None


def failures(attempts: pd.DataFrame) -> Table | None:
    """The cells whose counting attempt did not end `ok`: kind, first line of the message, and how to run it again."""
    columns = (
        Column("cell", "Cell"),
        Column("status", "How it ended"),
        Column("message", "Message"),
        Column("command", "To run it again"),
    )
    wanted = ("task", "path", "status", "error_kind", "error_message", "command")
    rows = tuple(
        (
            Cell(f"{task}/{_slug(path)}", code=True),
            Cell(status),
            Cell(short(_message(status, kind, message)), code=True),
            Cell(" ".join(command.split()) if command else "-", code=bool(command)),
        )
        for task, path, status, kind, message, command in _columns(attempts, *wanted)
    )
    return Table("failures", "Failures", columns, rows) if rows else None


def unreadable(files: Iterable[Unreadable]) -> Table | None:
    """Record files that could not be used, with the reason."""
    columns = (Column("record", "Record"), Column("reason", "Why it could not be read"))
    rows = tuple((Cell(file.path, code=True), Cell(short(file.reason), code=True)) for file in files)
    return Table("unreadable", "Unreadable records", columns, rows) if rows else None


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
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _share(weights: int, total: int) -> Cell:
    if not total:
        return Cell(str(weights), weights)
    share = weights / total
    return Cell(f"{si(weights)}{NBSP}({percent(share)})", weights, parts=(("share", share),))
