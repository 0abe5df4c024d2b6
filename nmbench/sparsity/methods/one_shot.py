"""one-shot: prune by magnitude once, at the start or after `at` optimizer steps; the mask then stays."""

from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.methods.base import DENSE, HOLD, Method


class Settings(BaseModel):
    """Hyper-parameters."""

    at: int = Field(0, ge=0, description="optimizer steps before the mask is made")


class OneShot(Method):
    """Magnitude mask made once after `at` steps (0: from the initial weights), then fixed."""

    name = "one-shot"
    settings = Settings

    def rule(self, phase: int, step: int) -> str:
        """Dense before `at` steps, the mask held from there on."""
        return HOLD if step >= self.hyper["at"] or phase > 0 else DENSE

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Pruned weights get no gradient, so that momentum cannot move them."""
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """E * g."""
        return grad * mask
