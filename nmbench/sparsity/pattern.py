"""The N:M pattern: of every M consecutive weights along one axis at most N are non-zero."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Axis = Literal["input", "kernel"]
MAX_M = 64

_TEXT = re.compile(r"(\d+):(\d+)(?:@([A-Za-z]+))?", re.ASCII)


@dataclass(frozen=True, order=True)
class NMPattern:
    """At most `n` non-zeros in every group of `m` consecutive weights along `axis`.

    axis="input" groups along the reduction dimension (`in_features`, or the input channels at each kernel
    position), which is what sparse tensor cores take. axis="kernel" is the seed paper's first layout: the
    flattened OIHW weight. Raises ValueError unless 1 <= n <= m <= 64.
    """

    n: int
    m: int
    axis: Axis = "input"

    def __post_init__(self) -> None:
        for name, value in (("n", self.n), ("m", self.m)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"pattern: {name} must be an integer, not {value!r}")
        if not 1 <= self.n <= self.m:
            raise ValueError(f"pattern {self.n}:{self.m}: N must lie between 1 and M")
        if self.m > MAX_M:
            raise ValueError(f"pattern {self.n}:{self.m}: M may be at most {MAX_M}")
        if self.axis not in get_args(Axis):
            raise ValueError(f"pattern axis {self.axis!r}: use 'input' or 'kernel'")

    @classmethod
    def parse(cls, text: PatternLike) -> NMPattern:
        """Read "2:4", "1:16" or "4:8@kernel"; a pattern comes back as it is. Raises ValueError on anything else."""
        if isinstance(text, NMPattern):
            return text
        match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"pattern {text!r}: write N:M, for instance '2:4' or '4:8@kernel'")
        n, m, axis = match.groups()
        if len(n) > 4 or len(m) > 4:  # before int(), which refuses thousands of digits in words of its own
            raise ValueError(f"pattern {text!r}: M may be at most {MAX_M}")
        return cls(int(n), int(m), cast(Axis, axis or "input"))

    def __str__(self) -> str:
        """The text that `parse` reads back."""
        return f"{self.n}:{self.m}" + ("" if self.axis == "input" else f"@{self.axis}")

    @property
    def density(self) -> float:
        """Largest fraction of weights that may be non-zero, N / M."""
        return self.n / self.m

    @property
    def index_bits(self) -> int:
        """Bits that one position inside a group takes, ceil(log2 M)."""
        return (self.m - 1).bit_length()


@dataclass(frozen=True, order=True)
class WidePattern(NMPattern):
    """A pattern of any M, for a stretch of training only: no final weight is held to it."""

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise ValueError(f"pattern {self.n}:{self.m}: N must lie between 1 and M")


def stretch(n: int, m: int, axis: Axis = "input") -> NMPattern:
    """The pattern n:m for a stretch of training, M above 64 included."""
    return NMPattern(n, m, axis) if m <= MAX_M else WidePattern(n, m, axis)


PatternLike = NMPattern | str
