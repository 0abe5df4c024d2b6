"""The method's part in one optimizer step: what comes right before the update and right after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from nmbench.sparsity.methods.base import Method, overrides
from nmbench.sparsity.weight import SparseWeight


class Updates:
    """Knows which layers had their term in the step that is going on, and by which optimizer they are updated."""

    def __init__(self, method: Method, weights: Sequence[SparseWeight]) -> None:
        self._method = method
        self._weights = weights
        self._own = overrides(method)
        self._applied: set[str] = set()
        self._going: dict[int, tuple[Optimizer | None, list[SparseWeight]]] = {}

    @property
    def when_dense(self) -> bool:
        """Has the method something to do under rule DENSE too?"""
        return "before" in self._own

    def forget(self) -> None:
        """The gradients are made anew, the update was skipped, or the step is over."""
        self._applied.clear()
        self._going.clear()

    def _layers(self, optimizer: Optimizer | None) -> list[SparseWeight]:
        mine = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        layers = []
        for weight in self._weights:
            parameter = weight.parameter
            trained = parameter.grad is not None and parameter.requires_grad
            if not (trained or weight.extra) or (mine is not None and id(parameter) not in mine):
                continue
            if weight.name in self._applied:
                raise RuntimeError(
                    f"before_step() ran twice for one optimizer step ({weight.name}): "
                    "either bind(optimizer) or call before_step() and step() by hand, not both"
                )
            self._applied.add(weight.name)
            layers.append(weight)
        return layers

    def before(self, optimizer: Optimizer | None) -> None:
        """See Handle.before_step."""
        if self._method.adam and optimizer is None:
            raise ValueError(f"method {self._method.name!r} reads the optimizer's state: before_step(optimizer)")
        layers = self._layers(optimizer)
        for weight in layers:
            weight.ensure_current()
        # a fused optimizer unscales inside its kernel, so the term must be in the scaled units
        scale: Any = getattr(optimizer, "grad_scale", None)
        scaled = [] if scale is None else [grad for weight in layers if (grad := weight.grad) is not None]
        for grad in scaled:
            grad.div_(scale)
        if layers:
            self._method.before(layers, optimizer)
            self._going[id(optimizer)] = optimizer, layers
        for grad in scaled:
            grad.mul_(scale)

    def after(self) -> None:
        """All updates of the step are done."""
        going = list(self._going.values())
        self.forget()
        if "after" in self._own:
            for optimizer, layers in going:
                self._method.after(layers, optimizer)
