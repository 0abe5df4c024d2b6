"""The contract of a pruner: from the weight and what calibration says of its inputs to a weight of the N:M pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor

from nmbench._util.settings import Settings
from nmbench.sparsity.pruning.columns import Columns


@dataclass
class Statistics:
    """What calibration says of the inputs x of one matrix; a convolution's are unfolded, one row a position.

    Attributes:
        sequences: examples that the model was called with. tokens: rows x of the layer, over all of them.
        total, square: sums over the rows of x_j and of x_j squared, (columns,); where a pruner needs "norm" or "gram".
        gram: sum over the rows of x xᵀ, (columns, columns); where it needs "gram".
        gradient: root of the sum over the batches of the squared gradient, (rows, columns); where it needs "gradient".
        damp: the damping that a pruner had to go up to, where the layer's Hessian is singular.
    """

    sequences: int = 0
    tokens: int = 0
    total: Tensor | None = None
    square: Tensor | None = None
    gram: Tensor | None = None
    gradient: Tensor | None = None
    damp: float | None = None

    def add(self, rows: Tensor, needs: frozenset[str]) -> None:
        """Count `rows`, (tokens, columns)."""
        rows = rows if rows.dtype == torch.float64 else rows.float()
        self.tokens += len(rows)
        if needs & {"norm", "gram"}:
            self.total = rows.sum(0) + (0 if self.total is None else self.total)
            self.square = rows.square().sum(0) + (0 if self.square is None else self.square)
        if "gram" in needs:
            self.gram = rows.t() @ rows if self.gram is None else self.gram.addmm_(rows.t(), rows)

    @property
    def norm(self) -> Tensor:
        """Root of the mean over the sequences of the sum of x_j squared, (columns,)."""
        return (given(self.square, "square") / max(1, self.sequences)).sqrt()


def given(value: Tensor | None, name: str) -> Tensor:
    """`value`. Raises ValueError where the pruner did not say that it needs it."""
    if value is None:
        raise ValueError(f"no {name} was collected: name it in the pruner's `needs`")
    return value


class Pruner:
    """Subclass this and name it in the entry-point group `nmbench.pruners`. What N:M says is always what is kept.

    A pruner that only ranks weights has a `score`; one that changes those that stay has a `prune` of its own.

    Class attributes:
        name: the entry-point name.
        needs: what it asks of calibration: "norm", "gram" or "gradient"; nothing for one that looks at weights alone.
        defaults, settings: hyper-parameters, as a training method declares them. `self.hyper` holds those in force.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    defaults: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[type[BaseModel] | None] = None

    def __init__(self, **hyper: Any) -> None:
        self.hyper = self.declared().complete(f"pruner {self.name!r}", hyper)

    @classmethod
    def declared(cls) -> Settings:
        """Every hyper-parameter with its default, type, range and help."""
        return Settings.declared(cls.defaults, cls.settings)

    def score(self, weight: Tensor, stats: Statistics) -> Tensor:
        """(rows, columns): of each group the N largest stay. weight: (rows, columns), float32 or float64."""
        return weight.abs()

    def prune(self, weight: Tensor, stats: Statistics, columns: Columns) -> tuple[Tensor, Tensor]:
        """(new weight, mask), both (rows, columns); weights that stay keep their value unless this is overridden."""
        mask = columns.top(self.score(weight, stats))
        return torch.where(mask, weight, 0), mask
