"""The contract of a method: a mask rule, a gradient rule, a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel
from torch import Tensor

from nmbench._util.settings import Settings
from nmbench.sparsity.kept_mask import DENSE, FOLLOW, HOLD

__all__ = ["DENSE", "FOLLOW", "HOLD", "Method"]


class Method:
    """Subclass this and name it in the entry-point group `nmbench.methods`.

    Class attributes:
        name: the entry-point name.
        defaults: every hyper-parameter with its default, which sets its type. `self.hyper` holds the values in force.
        settings: instead of `defaults`, or beside it: a pydantic model, whose fields have ranges and descriptions too.
        phases: how many times the full training schedule runs (2 for ASP).
        sparse: False for a method that leaves a dense network behind.
        starts_dense: True where the first of several phases is plain dense training, so that the weights of the dense
            twin may be taken instead of training them again.
    """

    name: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[type[BaseModel] | None] = None
    phases: ClassVar[int] = 1
    sparse: ClassVar[bool] = True
    starts_dense: ClassVar[bool] = False

    def __init__(self, **hyper: Any) -> None:
        self.hyper = self.declared().complete(f"method {self.name!r}", hyper)

    @classmethod
    def declared(cls) -> Settings:
        """Every hyper-parameter with its default, type, range and help."""
        return Settings.declared(cls.defaults, cls.settings)

    def rule(self, phase: int, step: int) -> str:
        """The mask rule for the forward pass after `step` optimizer steps of `phase`.

        DENSE: the weight is used as it is (the mask is a shadow, for SAD). FOLLOW: the mask is that of the current
        weight, renewed after each step. HOLD: the mask is made by magnitude when this rule begins, the pruned
        weights become zero, and both stay so.
        """
        return FOLLOW

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Change `grad` in place, once an optimizer step, right before the update; `mask` is that of the forward pass.

        grad, weight, mask: all of the weight's shape; grad is in units of the mean loss.
        """

    def gradients(self, grads: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        """`gradient` for each layer that has one; a method may do them together, to save launches on a GPU."""
        for grad, weight, mask in zip(grads, weights, masks, strict=True):
            self.gradient(grad, weight, mask)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor | None:
        """What `gradient` makes of `grad`, written down plainly, for `nmbench check`; None where there is no reference.

        It is never called in training. A method that leaves `gradient` alone needs none.
        """
        return grad if type(self).gradient is Method.gradient else None
