"""asp: NVIDIA's recipe. Train dense for the full schedule, prune by magnitude once, train the full schedule again."""

from torch import Tensor

from nmbench.sparsity.methods.base import DENSE, HOLD, Method


class ASP(Method):
    """Two full training passes: dense, then with the magnitude mask held. Costs twice the training."""

    name = "asp"
    phases = 2
    starts_dense = True

    def rule(self, phase: int, step: int) -> str:
        """Dense in the first pass, the mask held in the second."""
        return HOLD if phase > 0 else DENSE

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Pruned weights get no gradient in the second pass."""
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """E * g."""
        return grad * mask
