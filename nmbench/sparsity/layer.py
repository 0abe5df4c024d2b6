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


def _references(tensor: Tensor) -> int:
    return 0 if _use_count is None else _use_count(tensor.untyped_storage()._cdata)


#: what the count says of a storage that one tensor holds (asking takes a reference too)
_ALONE = _references(torch.empty(1))


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


class _StraightThrough(torch.autograd.Function):
    """W~ = E * W forward; the gradient of W~ goes to W unchanged (STE)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, owner: SparseWeight) -> Tensor:
        return owner.masked(weight.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


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
        self._buffer: Tensor | None = None

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
        parameter = self.parameter
        weight = parameter.detach()
        self._match(weight)
        layout = physical_layout(weight, self.grouping, self.pattern.axis)
        flips: int | Tensor
        if layout is not None and self._native(weight):
            result = _native.update(weight, self.mask, out, layout, self.pattern.n, self.pattern.m)
            if result.nonfinite:
                raise NonFiniteWeightError(f"{self.name} holds NaN or infinity")
            flips, self._checksum = result.flips, result.checksum
        else:
            if weight.device.type == "cpu" and not torch.isfinite(weight).all():
                raise NonFiniteWeightError(f"{self.name} holds NaN or infinity")
            fresh = torch_mask(weight, self.pattern, self.grouping)
            changed = (fresh != self.mask).sum()
            flips = int(changed) if weight.device.type == "cpu" else changed
            self.mask.copy_(fresh)
            if self._native(weight):  # memory in an order that the fused mask pass does not take, but apply does
                scratch = torch.empty_like(weight) if out is None else out
                self._checksum = _native.apply(weight, self.mask, scratch)
            elif out is not None:
                torch.where(self.mask, weight, weight.new_zeros(()), out=out)
        self.computed += 1
        self._seen = self._identity(parameter)
        self._made_in = self.scope.serial
        self._cache = None
        return flips

    def _native(self, weight: Tensor) -> bool:
        return _native.available_for(weight) and self.mask.stride() == weight.stride()

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
        verified_later = self._native(weight)
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
        if not self._native(self.parameter):
            self._seen = None
        self._cache = None

    # -- the masked weight --------------------------------------------------------------------------------------
    def masked(self, weight: Tensor) -> Tensor:
        """E * W as a new tensor. weight: the parameter, detached."""
        self._match(weight)
        out = self._room(weight)
        if self.rule == HOLD:
            return torch.where(self.mask, weight, weight.new_zeros(()), out=out)
        if self._stale(self.parameter):
            self.update(out)
        elif not self._native(weight):
            torch.where(self.mask, weight, weight.new_zeros(()), out=out)
        elif _native.apply(weight, self.mask, out) != self._checksum:
            self.update(out)  # changed through .data, which no version counter sees
        return out

    def _room(self, weight: Tensor) -> Tensor:
        """Memory for a masked weight: that of the last one if nobody holds it any more.

        Fresh memory costs page faults, on a CPU more than the masking itself (three times, for ResNet-18).
        """
        last = self._buffer
        reusable = (
            last is not None
            and _use_count is not None
            and weight.device.type == "cpu"
            and (last.dtype, last.shape, last.stride()) == (weight.dtype, weight.shape, weight.stride())
            and _references(last) <= _ALONE
            and not torch.is_inference_mode_enabled()
        )
        if last is None or not reusable:
            last = torch.empty_like(weight, memory_format=torch.preserve_format)
            self._buffer = None if torch.is_inference_mode_enabled() else last
        return last.detach()  # a tensor of its own, so that the count above sees who still needs the memory

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
        masked: Tensor
        if weight.requires_grad and torch.is_grad_enabled():
            masked = _StraightThrough.apply(weight, self)
        else:
            # a leaf like the parameter itself, in inference mode too: torch chooses some kernels by these properties,
            # and so each bit is as in the dense model
            with torch.inference_mode(False), torch.no_grad():
                masked = self.masked(weight.detach()).requires_grad_(weight.requires_grad)
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
            self._match(weight)
            weight.masked_fill_(~self.mask, 0.0)
        self._seen = None
        self._cache = None

    def drop_cache(self) -> None:
        """Let go of the masked weight of the last forward pass (and of its graph)."""
        self._cache = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle gets a parameter of its own, so nothing that was seen of this one holds for it
        return {**self.__dict__, "_cache": None, "_cached_for": (), "_seen": None, "_buffer": None}
