"""One sparse weight while it trains: its mask, and the masked weight that a forward pass sees.

    Scope          knows when the model's forward pass begins and ends
    SparseWeight   parameter -> masked weight with a straight-through gradient; mask kept up to date, flips counted

Invariant: a masked weight is reused only within one forward pass of the model, and the mask behind it is never stale.
On the CPU each reuse of a mask verifies a checksum of the weight in the same pass that multiplies, so changes through
`.data` are seen too.

On a GPU there is no number to compare without waiting for it, and a pass that verified a mask would move more bytes
than one that makes it. So the first sparse weight that a forward pass asks for makes all masks anew and all masked
weights with them, in one launch (_fused); `step()` makes the masks once more, since flips are those of the weights
right after the update and an average may be swapped in before the next forward pass. A change that a version counter
sees is seen at each use, one through `.data` when the next forward pass begins; outside the model's forward pass the
mask is made at each use. The masked weights of a pass share one block of memory, as large as the sparse weights, which
lives as long as any of them: in training until backward is through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity.fast import compiled as _graphs
from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.fast import native as _native
from nmbench.sparsity.mask import Grouping, NonFiniteWeightError, physical_layout, torch_mask
from nmbench.sparsity.pattern import NMPattern

__all__ = ["DENSE", "FOLLOW", "HOLD", "Scope", "SparseWeight", "renew"]

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
        self.fleet = _fused.Fleet()

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
        return {"depth": 0, "serial": self.serial, "weights": self.weights, "fleet": self.fleet}


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
        self._fused_for: tuple[object, ...] = ()
        self._fused_layout: tuple[int, int, int] | None = None
        self._ready: Tensor | None = None  # the masked weight that a pass over all weights made, for this forward pass
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
        elif plan is None and self._fusable(weight):
            (flips,) = renew([self])
            if out is not None:
                torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
            return flips
        else:
            flips = self._update_by_torch(weight.detach(), plan, out)
        self._renewed(weight)
        return flips

    def _renewed(self, weight: Tensor, ready: Tensor | None = None) -> None:
        self.computed += 1
        self._seen = self._identity(weight)
        self._made_in = self.scope.serial
        self._ready = ready
        self._cache = None

    def _fusable(self, weight: Tensor) -> bool:
        """Whether a pass over many weights takes this one. Its mask is then where the weight is."""
        here = (weight.data_ptr(), weight.stride(), weight.dtype, self.mask.data_ptr())
        if self._fused_for != here:  # looking this up costs more than the launch in a small network
            taken = _fused.takes(weight)
            if taken:
                self._match(weight)
            self._fused_layout = self._layout(weight) if taken and self.mask.stride() == weight.stride() else None
            self._fused_for = (weight.data_ptr(), weight.stride(), weight.dtype, self.mask.data_ptr())
        return self._fused_layout is not None

    def _layout(self, weight: Tensor) -> tuple[int, int, int] | None:
        return physical_layout(weight, self.grouping, self.pattern.axis)

    def _look_for_nonfinite(self, weight: Tensor) -> None:
        if weight.device.type == "cpu" and not torch.isfinite(weight).all():
            raise NonFiniteWeightError(f"{self.name} holds NaN or infinity")

    def _update_by_torch(self, weight: Tensor, plan: _native.Plan | None, out: Tensor | None) -> int | Tensor:
        on_cpu = weight.device.type == "cpu"
        self._look_for_nonfinite(weight)
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
            self._plan = _native.Plan(weight, self.mask, self._layout(weight), self.pattern.n, self.pattern.m)
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
        self._cache = self._ready = None

    # -- the masked weight --------------------------------------------------------------------------------------
    def masked(self) -> Tensor:
        """E * W, detached, in memory that the next call may use again once nobody holds this tensor's storage."""
        weight = self.parameter
        plan = self._planned(weight)
        if plan is None and self.rule != HOLD and self._fusable(weight):
            return self._fused(weight)
        out = self._memory(weight)
        if self.rule == HOLD:
            return torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
        if self._stale(weight) or (plan is None and self.scope.depth == 0):
            self.update(out)
        elif plan is None:
            torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
        elif plan.apply(out) != self._checksum:
            self.update(out)  # changed through .data, which no version counter sees
        return out

    def _fused(self, weight: Tensor) -> Tensor:
        """As `masked`, where a pass over many weights takes this one."""
        if self.scope.depth > 0 and self._made_in != self.scope.serial:
            renew([one for one in self.scope.weights if one.rule != HOLD], masked=True)
        if self._ready is None or self.scope.depth == 0 or self._seen != self._identity(weight):
            renew([self], masked=True)
        assert self._ready is not None
        return self._ready

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
        """For torch.compile: an operator on a GPU, else in plain torch operations.

        x + (E x - x) is E x exactly, with the gradient of x.
        """
        if self.rule != HOLD and _graphs.takes(weight):
            pattern, grouping = self.pattern, self.grouping
            on_kernel = pattern.axis == "kernel"
            made: Tensor = _graphs.masked_weight(weight, pattern.n, pattern.m, on_kernel, grouping.dim, grouping.groups)
            return made
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
        self._cache = self._ready = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle gets a parameter of its own, so nothing that was seen of this one holds for it
        seen = {"_cache": None, "_cached_for": (), "_seen": None, "_plan": None, "_buffer": None, "_ready": None}
        return {**self.__dict__, **seen}


def renew(weights: Sequence[SparseWeight], *, masked: bool = False) -> list[int | Tensor]:
    """`update` for each, those on a GPU together: the flips of each. Nothing waits for the GPU.

    masked: those on a GPU keep their masked weights ready for the forward pass that is going on; others make theirs
    when they are used, so their masks are left for that time.
    """
    fusable = {i for i, w in enumerate(weights) if w._planned(w.parameter) is None and w._fusable(w.parameter)}
    flips: list[int | Tensor] = [0 if masked or i in fusable else w.update() for i, w in enumerate(weights)]
    if fusable:
        chosen = [weights[i] for i in sorted(fusable)]
        data = [w.parameter.detach() for w in chosen]
        for w, values in zip(chosen, data, strict=True):
            w._look_for_nonfinite(values)
        layouts = [layout for w in chosen if (layout := w._fused_layout) is not None]
        pattern = (chosen[0].pattern.n, chosen[0].pattern.m)
        counts, made = chosen[0].scope.fleet.renew(data, [w.mask for w in chosen], layouts, pattern, masked=masked)
        for number, (i, w) in enumerate(zip(sorted(fusable), chosen, strict=True)):
            flips[i] = counts[number]
            w._renewed(w.parameter, made[number] if masked else None)
    return flips
