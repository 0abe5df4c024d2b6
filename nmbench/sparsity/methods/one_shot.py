"""one-shot: prune by magnitude once, at the start or after `at` optimizer steps; the mask then stays."""

from torch import Tensor

from nmbench.sparsity.methods.base import DENSE, HOLD, Method


class OneShot(Method):
    """Magnitude mask made once after `at` steps (0: from the initial weights), then fixed."""

    name = "one-shot"
    defaults = {"at": 0}  # noqa: RUF012 - read only

    def __init__(self, **hyper: object) -> None:
        super().__init__(**hyper)
        if self.hyper["at"] < 0:
            raise ValueError(f"method 'one-shot': at must be 0 or more, not {self.hyper['at']}")

    def rule(self, phase: int, step: int) -> str:
        """Dense before `at` steps, the mask held from there on."""
        return HOLD if step >= self.hyper["at"] or phase > 0 else DENSE

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Pruned weights get no gradient, so that momentum cannot move them."""
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """E * g."""
        return grad * mask
