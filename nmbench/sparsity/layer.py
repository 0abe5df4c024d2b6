"""One sparse weight while it trains: its mask, and the masked weight that a forward pass sees.

    Scope          knows when the model's forward pass begins and ends
    SparseWeight   parameter -> masked weight with a straight-through gradient; mask kept up to date, flips counted

Invariant: a masked weight is reused only within one forward pass of the model, and the mask behind it is never stale.
On the CPU each reuse of a mask verifies a checksum of the weight in the same pass that multiplies, so changes through
`.data` are seen too. Elsewhere the mask is made anew once a forward pass, which needs no synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity import _native
from nmbench.sparsity.mask import Grouping, NonFiniteWeightError, physical_layout, torch_mask
from nmbench.sparsity.pattern import NMPattern

__all__ = ["DENSE", "FOLLOW", "HOLD", "Scope", "SparseWeight"]

#: private to torch, so absent is allowed: then every masked weight gets fresh memory
_use_count: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)


def _references_of_one_tensor() -> int:
    """What the count says of a storage that a single tensor holds."""
    if _use_count is None:
        return 0
    tensor = torch.empty(1)
    address = tensor.untyped_storage()._cdata  # the storage object made here is gone when the count is asked
    return _use_count(address)


_ALONE = _references_of_one_tensor()


#: how a weight behaves at a step; see methods/base.py
DENSE, FOLLOW, HOLD = "dense", "follow", "hold"


class Scope:
    """Counts forward passes of the model, by hooks on it. `serial` names the pass that is going on."""

    def __init__(self) -> None:
        self.depth = 0
        self.serial = 0
        self.weights: list[SparseWeight] = []

    def enter(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook. Inside torch.compile nothing is cached, so nothing is counted."""
        if torch.compiler.is_compiling():
            return
        if self.depth == 0:
            self.serial += 1
        self.depth += 1

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook; runs after an exception too."""
        if torch.compiler.is_compiling():
            return
        self.depth = max(0, self.depth - 1)
        if self.depth == 0:
            for weight in self.weights:  # or the masked weights would take memory until the next forward pass
                weight.drop_cache()

    def __getstate__(self) -> dict[str, Any]:
        return {"depth": 0, "serial": self.serial, "weights": self.weights}


class SparseWeight:
    """The N:M state of one parameter (shared by all modules that the parameter is tied to).

    Attributes:
        name: of the parameter in the model, for instance "layer1.0.conv1.weight".
        mask: bool, of the parameter's shape; True is kept. Under rule DENSE it is a shadow that changes nothing.
        rule: DENSE, FOLLOW (the mask is that of the current weights) or HOLD (the mask stays).
        computed: how often the mask was computed.
    """

    def __init__(
        self, name: str, module: nn.Module, key: str, pattern: NMPattern, grouping: Grouping, scope: Scope
    ) -> None:
        self.name = name
        self.module = module
        self.key = key
        self.pattern = pattern
        self.grouping = grouping
        self.scope = scope
        self.rule = FOLLOW
        self.computed = 0
        self.mask = torch.empty_like(self.parameter, dtype=torch.bool, memory_format=torch.preserve_format)
        self._seen: tuple[int, ...] | None = None
        self._checksum = 0
        self._made_in = -1
        self._cache: Tensor | None = None
        self._cached_for: tuple[int, ...] = ()
        self._plan: _native.Plan | None = None
        self._buffer: Tensor | None = None
        self._room = 0

    # -- the parameter ------------------------------------------------------------------------------------------
    @property
    def parameter(self) -> Tensor:
        """The dense weight itself, which the optimizer updates."""
        weight = self.module._parameters[self.key]
        assert weight is not None
        return weight

    def _identity(self, weight: Tensor) -> tuple[int, ...]:
        return id(weight), weight.data_ptr(), weight._version

    # -- the mask -----------------------------------------------------------------------------------------------
    def update(self, out: Tensor | None = None) -> int | Tensor:
        """Make the mask that of the current weights; write the masked weight to `out` if given.

        Returns the number of flips against the mask before: an int, or a 0-d tensor on an accelerator.
        Raises NonFiniteWeightError (looked for where it costs no synchronisation).
        """
        weight = self.parameter
        plan = self._planned(weight)
        flips: int | Tensor
        if plan is not None and plan.layout is not None:
            result = plan.update(out)
            if result.nonfinite:
                raise NonFiniteWeightError(f"{self.name} holds NaN or infinity")
            flips, self._checksum = result.flips, result.checksum
        else:
            flips = self._update_by_torch(weight.detach(), plan, out)
        self.computed += 1
        self._seen = self._identity(weight)
        self._made_in = self.scope.serial
        self._cache = None
        return flips

    def _update_by_torch(self, weight: Tensor, plan: _native.Plan | None, out: Tensor | None) -> int | Tensor:
        on_cpu = weight.device.type == "cpu"
        if on_cpu and not torch.isfinite(weight).all():
            raise NonFiniteWeightError(f"{self.name} holds NaN or infinity")
        fresh = torch_mask(weight, self.pattern, self.grouping)
        changed = (fresh != self.mask).sum()
        self.mask.copy_(fresh)
        if plan is not None:  # memory in an order that the fused mask pass does not take, but apply does
            self._checksum = plan.apply(torch.empty_like(weight) if out is None else out)
        elif out is not None:
            torch.where(self.mask, weight, weight.new_zeros(()), out=out)
        return int(changed) if on_cpu else changed

    def _planned(self, weight: Tensor) -> _native.Plan | None:
        """The compiled passes for the weight where it is now; None where they cannot take it."""
        plan = self._plan
        if plan is not None and plan.fits(weight, self.mask):
            return plan
        self._plan = self._buffer = None
        self._match(weight)
        if _native.available_for(weight) and self.mask.stride() == weight.stride():
            layout = physical_layout(weight, self.grouping, self.pattern.axis)
            self._plan = _native.Plan(weight, self.mask, layout, self.pattern.n, self.pattern.m)
        return self._plan

    def _match(self, weight: Tensor) -> None:
        """Let the mask follow its weight to another device or memory format."""
        if self.mask.device != weight.device or self.mask.stride() != weight.stride():
            with torch.inference_mode(False):  # a mask made in there could not be renewed in place outside
                like = torch.empty_like(weight, dtype=torch.bool, memory_format=torch.preserve_format)
                self.mask = like.copy_(self.mask)

    def _stale(self, weight: Tensor) -> bool:
        """Is the mask possibly not that of the current weights, as far as is known without reading them?"""
        if self._seen != self._identity(weight):
            return True
        verified_later = self._planned(weight) is not None
        return not verified_later and self.scope.depth > 0 and self._made_in != self.scope.serial

    def refresh(self) -> None:
        """Make the mask current if the rule says that it follows the weights. Counts no flips."""
        if self.rule != HOLD:
            self.update()

    def ensure_current(self) -> None:
        """Refresh if the weights are known to have changed since the mask was made."""
        if self.rule != HOLD and self._stale(self.parameter):
            self.update()

    def invalidate(self) -> None:
        """Called on train() and eval(): trust nothing that was made before."""
        if self._planned(self.parameter) is None:
            self._seen = None
        self._cache = None

    # -- the masked weight --------------------------------------------------------------------------------------
    def masked(self) -> Tensor:
        """E * W, detached, in memory that the next call may use again once nobody holds this tensor's storage."""
        weight = self.parameter
        plan = self._planned(weight)
        out = self._memory(weight)
        if self.rule == HOLD:
            return torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
        if self._stale(weight):
            self.update(out)
        elif plan is None:
            torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
        elif plan.apply(out) != self._checksum:
            self.update(out)  # changed through .data, which no version counter sees
        return out

    def _memory(self, weight: Tensor) -> Tensor:
        """Memory for a masked weight: that of the last one if nobody holds it any more.

        Fresh memory costs page faults, on a CPU more than the masking itself (three times, for ResNet-18).
        """
        if self._plan is None or _use_count is None:
            return torch.empty_like(weight.detach(), memory_format=torch.preserve_format)
        if self._buffer is None or _use_count(self._room) > _ALONE:
            self._buffer = torch.empty_like(weight.detach(), memory_format=torch.preserve_format)
            self._room = self._buffer.untyped_storage()._cdata
        return self._buffer

    def forward(self) -> Tensor:
        """What the layer computes with: the masked weight, or the parameter itself under rule DENSE."""
        weight = self.parameter
        if self.rule == DENSE:
            return weight
        if torch.compiler.is_compiling():
            return self._compiled(weight)
        identity = (*self._identity(weight), self.scope.serial, torch.is_grad_enabled())
        if self._cache is not None and self.scope.depth > 0 and self._cached_for == identity:
            return self._cache
        if weight.requires_grad and torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            # Straight-through: a view hands its gradient to the parameter unchanged, and its values are set to E * W.
            # The same as an autograd.Function that returns its gradient, without Python in the backward pass.
            masked = weight.view_as(weight)
            masked.data = self.masked()
        else:
            # a leaf like the parameter itself, in inference mode too: torch chooses some kernels by these properties,
            # and so each bit is as in the dense model
            with torch.inference_mode(False), torch.no_grad():
                masked = self.masked().detach().requires_grad_(weight.requires_grad)
        if self.scope.depth > 0:
            self._cache, self._cached_for = masked, identity
        return masked

    def _compiled(self, weight: Tensor) -> Tensor:
        """In plain torch operations for torch.compile: x + (E x - x) is E x exactly, with the gradient of x."""
        kept = self.mask if self.rule == HOLD else torch_mask(weight, self.pattern, self.grouping)
        return weight + (torch.where(kept, weight, 0.0) - weight).detach()

    def bake(self) -> None:
        """W <- E * W in place."""
        weight = self.parameter
        with torch.no_grad():
            self._planned(weight)
            weight.masked_fill_(~self.mask, 0.0)
        self._seen = None
        self._cache = None

    def drop_cache(self) -> None:
        """Let go of the masked weight of the last forward pass (and of its graph)."""
        self._cache = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle gets a parameter of its own, so nothing that was seen of this one holds for it
        return {**self.__dict__, "_cache": None, "_cached_for": (), "_seen": None, "_plan": None, "_buffer": None}
