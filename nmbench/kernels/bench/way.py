"""One way to do a dense product."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Way:
    """`run(x, weight)` with operands of `dtype`; `name` is what a table calls it.

    least_rows: x is filled up to so many rows beforehand, which is not timed. prepare, lay: the weight and x as `run`
    takes them, which is not timed either.
    """

    name: str
    dtype: torch.dtype
    run: Callable[[Tensor, Any], Tensor]
    least_rows: int = 1
    prepare: Callable[[Tensor], Any] = lambda weight: weight
    lay: Callable[[Tensor], Tensor] = lambda x: x
