"""A cell of a benchmark matrix, and its identity: a hash of the scientific fields in canonical form.

Fields that hold their default are left out of the hash, so that a field added later keeps all old ids.
Golden tests hold the ids still.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from nmbench._util.settings import canonical, plain
from nmbench.sparsity.allocation import Patterns, read

#: a dense cell's pattern and method, as records and people write them
DENSE = "dense"


@lru_cache(256)
def pattern_of(text: str) -> Patterns | None:
    """The pattern that `str` of it, or "dense" (None), stands for. Raises ValueError on anything else."""
    return None if text == DENSE else read(text)


@dataclass(frozen=True)
class InitialWeights:
    """Dense weights to start from: what tells them (a hash of the file), what people call them, and where they are.

    Only the hash counts. The path is for the process that loads them and stands in no record.
    """

    sha256: str
    file: str = field(default="", compare=False)
    path: Path | None = field(default=None, compare=False)

    @classmethod
    def read(cls, path: Path) -> InitialWeights:
        """Those in the file `path`. Raises OSError if it cannot be read, or is no regular file."""
        if path.exists() and not path.is_file():  # of a device or a pipe there is no end
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(digest, path.name, path.absolute())

    @classmethod
    def from_dict(cls, data: Mapping[str, str]) -> InitialWeights:
        """Those of a record; older ones hold the path as it was typed, of which the name is kept."""
        return cls(data["sha256"], data.get("file") or Path(data.get("path", "")).name)

    def to_dict(self) -> dict[str, str]:
        """As they stand in a record."""
        return {"file": self.file, "sha256": self.sha256}


@dataclass(frozen=True)
class Cell:
    """One training to be done.

    pattern: of all layers, or an allocation of one to each; None for a dense cell. train: the engine's settings that
    differ from the scale's, shared by a cell and its dense twin. hyper: the method's own settings that differ from its
    defaults. distill: every setting of distillation from the dense twin (nmbench.contract.distillation), or none. All
    are kept in canonical form, so that equal settings are equal wherever they are compared.
    """

    task: str
    model: str
    scale: str
    pattern: Patterns | None = None
    method: str = DENSE
    seed: int = 0
    train: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    init: InitialWeights | None = None
    distill: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("train", "hyper", "distill"):
            if value := getattr(self, name):
                object.__setattr__(self, name, plain(value))

    @property
    def is_dense(self) -> bool:
        """It has no pattern, and is what others are compared with."""
        return self.pattern is None

    @property
    def pattern_text(self) -> str:
        """The pattern as a record writes it: "2:4", or "dense"."""
        return DENSE if self.pattern is None else str(self.pattern)

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits."""
        fields: dict[str, Any] = {"task": self.task, "model": self.model, "scale": self.scale, "seed": self.seed}
        if self.pattern is not None:
            fields["pattern"] = str(self.pattern)
        if self.method != DENSE:
            fields["method"] = self.method
        if self.train:
            fields["train"] = self.train
        if self.hyper:
            fields["hyper"] = self.hyper
        if self.init:
            fields["init"] = self.init.sha256
        if self.distill:
            fields["distill"] = self.distill
        return hashlib.sha256(canonical(fields).encode()).hexdigest()[:16]

    @property
    def twin(self) -> Cell:
        """The dense cell that this one is compared with."""
        return replace(self, pattern=None, method=DENSE, hyper={}, distill={})

    @property
    def slug(self) -> str:
        """A short readable name, safe as a folder: model, pattern, method, seed."""
        pattern = re.sub(r"(^|,)\*=", r"\1rest=", self.pattern_text).replace("*.", "").replace("=", "-")
        parts = [Path(self.model).stem if "/" in self.model else self.model, pattern.replace(":", "x")[:40]]
        parts += [] if self.is_dense else [self.method]
        parts += [*["distilled"] * bool(self.distill), f"s{self.seed}"]
        return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))[:80]

    @property
    def folder(self) -> str:
        """Where its attempts lie below the matrix' results: task/slug-id8."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.task)}/{self.slug}-{self.id[:8]}"

    @property
    def label(self) -> str:
        """For people: task/model pattern method seed."""
        middle = DENSE if self.is_dense else f"{self.pattern} {self.method}"
        extra = "".join(f" {k}={v}" for k, v in {**self.train, **self.hyper}.items())
        extra += "".join(f" distill.{k}={v}" for k, v in self.distill.items())
        return f"{self.task}/{self.model} {middle}{extra} seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a record."""
        out: dict[str, Any] = {
            "task": self.task,
            "model": self.model,
            "scale": self.scale,
            "train": dict(self.train),
            "pattern": self.pattern_text,
            "method": self.method,
            "hyper": dict(self.hyper),
            "seed": self.seed,
        }
        out |= {"init": self.init.to_dict()} if self.init else {}
        return out | ({"distill": dict(self.distill)} if self.distill else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """The cell of a record. Raises ValueError if its pattern is none."""
        fields = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        fields["pattern"] = pattern_of(data.get("pattern", DENSE))
        fields["init"] = InitialWeights.from_dict(data["init"]) if data.get("init") else None
        return cls(**fields)
