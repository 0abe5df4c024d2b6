"""A cell of a benchmark matrix, and its identity: a hash of the scientific fields in canonical form.

Fields that hold their default are left out of the hash, so that a field added later keeps all old ids.
Golden tests hold the ids still.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["DENSE", "Cell", "canonical"]

DENSE = "dense"


def _plain(value: Any) -> Any:
    """20.0 and 20 are the same setting; tuples are lists."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def canonical(value: Any) -> str:
    """JSON text that is the same for equal settings: sorted keys, no spaces, whole floats as integers."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Cell:
    """One training to be done.

    train: the engine's settings that differ from the scale's, shared by a cell and its dense twin. hyper: the
    method's own settings that differ from its defaults. init: {"path", "sha256"} of dense weights to start from;
    only the hash counts for the identity.
    """

    task: str
    model: str
    scale: str
    pattern: str = DENSE
    method: str = DENSE
    seed: int = 0
    train: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    init: Mapping[str, str] | None = None

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        fields: dict[str, Any] = {"task": self.task, "model": self.model, "scale": self.scale, "seed": self.seed}
        if self.pattern != DENSE:
            fields["pattern"] = self.pattern
        if self.method != DENSE:
            fields["method"] = self.method
        if self.train:
            fields["train"] = self.train
        if self.hyper:
            fields["hyper"] = self.hyper
        if self.init:
            fields["init"] = self.init["sha256"]
        return hashlib.sha256(canonical(fields).encode()).hexdigest()[:16]

    @property
    def twin(self) -> Cell:
        """The dense cell that this one is compared with."""
        return replace(self, pattern=DENSE, method=DENSE, hyper={})

    @property
    def slug(self) -> str:
        """A short readable name, safe as a folder: model, pattern, method, seed."""
        parts = [Path(self.model).stem if "/" in self.model else self.model]
        parts += [self.pattern.replace(":", "x"), self.method] if self.pattern != DENSE else [DENSE]
        text = "-".join([*parts, f"s{self.seed}"])
        return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:80]

    @property
    def folder(self) -> str:
        """Where its attempts lie below the matrix' results: task/slug-id8."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.task)}/{self.slug}-{self.id[:8]}"

    @property
    def label(self) -> str:
        """For people: task/model pattern method seed."""
        middle = DENSE if self.pattern == DENSE else f"{self.pattern} {self.method}"
        extra = "".join(f" {k}={v}" for k, v in {**self.train, **self.hyper}.items())
        return f"{self.task}/{self.model} {middle}{extra} seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a record."""
        out: dict[str, Any] = {
            "task": self.task,
            "model": self.model,
            "scale": self.scale,
            "train": dict(self.train),
            "pattern": self.pattern,
            "method": self.method,
            "hyper": dict(self.hyper),
            "seed": self.seed,
        }
        return out | ({"init": dict(self.init)} if self.init else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """The cell of a record."""
        return cls(**{k: v for k, v in data.items() if k in cls.__dataclass_fields__})
