"""Where training stands, as a method sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Kept by the handle.

    phase: training pass. step: optimizer steps done in it. total: how many are planned in it; None where nobody said.
    loss: the last value that was reported, None where nobody did.
    """

    phase: int = 0
    step: int = 0
    total: int | None = None
    loss: float | None = None

    def tell(self, loss: float | None, total: float | None) -> None:
        """What is not None is new. Raises ValueError for a `total` that is no number of steps."""
        if total is not None and not (float(total).is_integer() and total >= 1):
            raise ValueError(f"total: a number of optimizer steps is wanted, not {total!r}")
        self.loss = self.loss if loss is None else loss
        self.total = self.total if total is None else int(total)

    def at(self, share: float) -> int:
        """The step at which `share` (0 to 1) of this pass is done.

        Raises ValueError where the length of training is needed and nobody said it. The first step is let through:
        the suite's tasks say it right after that.
        """
        if self.total is None and share:
            if self.step > 1:
                raise ValueError(
                    "this method's settings are shares of training, whose length is not known: "
                    "sparsify(..., steps=N), or a task's run.step(..., total=N)"
                )
            return 10**9
        return round(share * (self.total or 0))
