"""What a run of the benchmark is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from nmbench._util.errors import UsageError, nearest
from nmbench.kernels.bench.suites import BATCHES, SUITES
from nmbench.sparsity import NMPattern

DTYPES: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        suites, dtypes: names; dtypes of DTYPES. patterns: with groups along the inputs.
        rows: rows of the linear suites, () for each suite's own. batches: batch sizes of the models' suites.
        backends: names; () is all that are registered, but `dense`, which is the baseline.
        budget_s: seconds for the whole run, None: no limit. cell_s: seconds of timing for one shape and dtype.
        compiled: is the dense product also tried under torch.compile (on a GPU)?
        check_only: compare the numbers and time nothing.
        hot: one buffer each, which stays in the cache; else they take turns, and come from memory.
    """

    suites: tuple[str, ...] = ("llm", "squares", "classification", "detection", "segmentation", "optical-flow",
                               "translation", "translation-big")  # fmt: skip
    patterns: tuple[NMPattern, ...] = tuple(NMPattern(n, m) for n, m in ((2, 4), (1, 4), (4, 8), (2, 8), (1, 16)))
    dtypes: tuple[str, ...] = ("bf16", "int8", "fp8")
    rows: tuple[int, ...] = ()
    batches: tuple[int, ...] = BATCHES
    backends: tuple[str, ...] = ()
    budget_s: float | None = None
    cell_s: float = 0.3
    compiled: bool = True
    check_only: bool = False
    hot: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for what does not exist."""
        for what, given, valid in (("suite", self.suites, SUITES), ("dtype", self.dtypes, DTYPES)):
            for name in given:
                if name not in valid:
                    raise UsageError(f"there is no {what} {name!r}{nearest(name, valid)}")
        if along := [pattern for pattern in self.patterns if pattern.axis != "input"]:
            raise UsageError(f"--patterns: {along[0]}: groups along a kernel are no groups of a product's reduction")
        if bad := [n for n in (*self.rows, *self.batches) if n < 1]:
            raise UsageError(f"--rows and --batches are positive numbers, not {bad[0]}")

    @classmethod
    def usual(cls, device: str) -> dict[str, Any]:
        """What is measured on a type of device if nothing is asked for, as JSON values."""
        if device == "cuda":
            return {}
        return {"suites": ["decode", "linear", "classification"], "dtypes": ["fp32", "bf16"], "batches": [1]}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Options:
        """Of JSON values. Raises UsageError for an unknown key, and for what is no pattern."""
        if unknown := set(given) - set(cls.__dataclass_fields__):
            raise UsageError(f"there is no option {min(unknown)!r}")
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in given.items()}
        try:
            plain |= {key: tuple(map(NMPattern.parse, plain[key])) for key in ("patterns",) if key in plain}
        except ValueError as error:
            raise UsageError(f"--patterns: {error}") from error
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {**asdict(self), "patterns": [str(pattern) for pattern in self.patterns]}
