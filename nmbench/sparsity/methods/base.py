"""The contract of a method: masks, what a layer computes with, gradients, a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from nmbench._util.settings import Settings
from nmbench.sparsity.clock import Clock
from nmbench.sparsity.gradients import Product, ste
from nmbench.sparsity.kept_mask import DENSE, FOLLOW, HOLD, KEEP
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.mask import torch_mask
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.tiling import SharedColumns

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["DENSE", "FOLLOW", "HOLD", "KEEP", "Method", "overrides"]


class Method:
    """Subclass this and name it in the entry-point group `nmbench.methods`. Each hook's default is plain STE.

    Class attributes:
        name: the entry-point name.
        defaults: every hyper-parameter with its default, which sets its type. `self.hyper` holds the values in force.
        settings: instead of `defaults`, or beside it: a pydantic model, whose fields have ranges and descriptions too.
        phases: how many times the full training schedule runs (2 for ASP).
        sparse: False for a method that leaves a dense network behind.
        starts_dense: True where the first of several phases is plain dense training, so that the weights of the dense
            twin may be taken instead of training them again.
        adam: True where the method reads the moments of Adam or AdamW.
        transposable: True where the final mask keeps the pattern along the outputs as well.
        layerwise: False where layers cannot be given patterns of their own (domino finds them itself).

    Attributes:
        now: phase, step, planned steps and last loss; kept by the handle.
        memory: what the method keeps over all layers, by name: tensors, numbers, lists; saved with the handle.
    """

    name: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[type[BaseModel] | None] = None
    phases: ClassVar[int] = 1
    sparse: ClassVar[bool] = True
    starts_dense: ClassVar[bool] = False
    adam: ClassVar[bool] = False
    transposable: ClassVar[bool] = False
    layerwise: ClassVar[bool] = True

    def __init__(self, **hyper: Any) -> None:
        self.hyper = self.declared().complete(f"method {self.name!r}", hyper)
        self.now = Clock()
        self.memory: dict[str, Any] = {}

    @classmethod
    def declared(cls) -> Settings:
        """Every hyper-parameter with its default, type, range and help."""
        return Settings.declared(cls.defaults, cls.settings)

    def refuses(self, pattern: NMPattern) -> str:
        """Why the method cannot do `pattern`, in a few words; "" where it can. Patterns with N = M are not asked."""
        return ""

    # -- masks --------------------------------------------------------------------------------------------------
    def rule(self, phase: int, step: int) -> str:
        """The mask rule for the forward pass after `step` optimizer steps of `phase`.

        DENSE: the weight is used as it is (the mask is a shadow, for SAD). FOLLOW: the mask is that of the current
        weight, renewed after each step. KEEP: the mask of before stays, and pruned weights go on moving. HOLD: the mask
        is made when this rule begins, the pruned weights become zero, and both stay so.
        """
        return FOLLOW

    def pattern(self, layer: Layer, step: int) -> NMPattern:
        """The pattern of the layer in the forward pass after `step` steps of this phase."""
        return layer.asked

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """The mask that FOLLOW makes, or HOLD and KEEP where they begin: bool, of the weight's shape.

        Runs without gradients and may change `weight`; asked twice at one step it must answer the same. An override of
        it is asked by `step()`, after a load, and where the weight's version shows a change.
        """
        return torch_mask(weight, layer.pattern, layer.grouping)

    # -- the forward pass ---------------------------------------------------------------------------------------
    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """What the layer computes with, differentiable; its value in evaluation is what finalize() leaves."""
        return ste(weight, torch.where(layer.mask, weight, weight.new_zeros(())))

    def product(self, layer: Layer, inputs: Tensor, weight: Tensor, base: Product) -> Tensor:
        """The layer's output; base(inputs, weight) is its own operation, bias included."""
        return base(inputs, weight)

    def extra(self, layer: Layer) -> dict[str, nn.Parameter]:
        """Learnable tensors beside the weight, made once; `layer.extra` has them, and so has the model."""
        return {}

    def shared(self, layer: Layer) -> SharedColumns | None:
        """The tiles of the final mask whose rows share their columns (V:N:M), which the audit checks; None: no such."""
        return None

    def survivor(self, layer: Layer) -> type[nn.Module] | None:
        """The class that the layer's module has after finalize(), if its extra tensors stay; None: they go."""
        return None

    # -- the optimizer step -------------------------------------------------------------------------------------
    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Gradients are complete (accumulated, unscaled, clipped) and the update comes next.

        layers: those that `optimizer` updates and that have a gradient.
        """
        pairs = [(layer, grad) for layer in layers if (grad := layer.grad) is not None]
        weights, masks = [layer.values.detach() for layer, _ in pairs], [layer.mask for layer, _ in pairs]
        self.gradients([grad for _, grad in pairs], weights, masks)

    def after(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """The update is done and counted, and the masks are renewed next. layers: as in `before`."""

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


_HOOKS = ("pattern", "mask", "forward", "product", "before", "after")


def overrides(method: Method) -> frozenset[str]:
    """Which hooks of the wider contract the method's class has of its own."""
    return frozenset(name for name in _HOOKS if getattr(type(method), name) is not getattr(Method, name))
