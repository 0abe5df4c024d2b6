"""The mask of one parameter, kept current: made by a compiled pass where one takes the weight, else by torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.fast import native as _native
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.mask import Grouping, NonFiniteWeightError, mask_of, physical_layout, torch_mask
from nmbench.sparsity.memory import is_plain
from nmbench.sparsity.pattern import MAX_M, NMPattern
from nmbench.sparsity.scope import Scope

if TYPE_CHECKING:
    from nmbench.sparsity.methods.base import Method

#: how a weight behaves at a step; see methods/base.py
DENSE, FOLLOW, KEEP, HOLD = "dense", "follow", "keep", "hold"
#: rules under which the mask stays
STAYS = (KEEP, HOLD)


class KeptMask(Layer):
    """The N:M state of one parameter.

    Attributes:
        rule: DENSE (the mask changes nothing), FOLLOW (it is that of the current weights), KEEP or HOLD (it stays).
        computed: how often the mask was computed.
        maker: the method, where it makes masks of its own.
    """

    def __init__(
        self, name: str, module: nn.Module, key: str, pattern: NMPattern, grouping: Grouping, scope: Scope
    ) -> None:
        super().__init__(name, module, key, pattern, grouping)
        self.scope = scope
        self.rule = FOLLOW
        self.computed = 0
        self.maker: Method | None = None
        self.mask = torch.empty_like(self.values, dtype=torch.bool, memory_format=torch.preserve_format)
        self._seen: tuple[int, ...] | None = None
        self._graded: int | None = None
        self._checksum = 0
        self._made_in = -1
        self._fused_for: tuple[object, ...] = ()
        self._fused_layout: tuple[int, int, int] | None = None
        self._plan: _native.Plan | None = None
        #: the masked weight that a pass over all weights made, and the one in use, for this forward pass
        self._ready: Tensor | None = None
        self._cache: Tensor | None = None

    def _identity(self, weight: Tensor) -> tuple[int, ...]:
        try:
            return id(weight), weight.data_ptr(), weight._version
        except RuntimeError:  # made in inference mode, it has no version
            return id(weight), weight.data_ptr(), 0

    @property
    def untold(self) -> bool:
        """Does it hold a gradient, or did it change after a forward pass that asked for one?"""
        weight = self.parameter
        return weight.grad is not None or (self._graded is not None and self._graded != weight._version)

    def repattern(self, pattern: NMPattern) -> None:
        """Another pattern is in force from now on; the mask is made anew when it is next asked for."""
        self.pattern = pattern
        self._plan, self._fused_for, self._seen = None, (), None
        self.drop_cache()

    # -- the mask -----------------------------------------------------------------------------------------------
    def update(self, out: Tensor | None = None) -> int | Tensor:
        """Make the mask that of the current weights; write the masked weight to `out` if given.

        Returns the number of flips against the mask before: an int, or a 0-d tensor on an accelerator.
        Raises NonFiniteWeightError (looked for where it costs no synchronisation).
        """
        weight = self.values
        return self._update(weight, self._planned(weight), out)

    def _update(self, weight: Tensor, plan: _native.Plan | None, out: Tensor | None = None) -> int | Tensor:
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
        if ready is not None:
            self.scope.used.append(self)

    def _fusable(self, weight: Tensor) -> bool:
        """Whether a pass over many weights takes this one. Its mask is then where the weight is."""
        if self.maker is not None or not is_plain(weight):
            return False
        here = (weight.data_ptr(), weight.stride(), weight.dtype, self.mask.data_ptr())
        if self._fused_for != here:  # looking this up costs more than the launch in a small network
            taken = _fused.takes(weight)
            if taken:
                self._match(weight)
            self._fused_layout = self._layout(weight) if taken and self.mask.stride() == weight.stride() else None
            self._fused_for = (weight.data_ptr(), weight.stride(), weight.dtype, self.mask.data_ptr())
        return self._fused_layout is not None

    def _layout(self, weight: Tensor) -> tuple[int, int, int] | None:
        fits = self.maker is None and self.pattern.m <= MAX_M
        return physical_layout(weight, self.grouping, self.pattern.axis) if fits else None

    def _look_for_nonfinite(self, weight: Tensor) -> None:
        if weight.is_cpu and not torch.isfinite(weight).all():
            raise NonFiniteWeightError(f"{self.name} holds NaN or infinity")

    def _update_by_torch(self, weight: Tensor, plan: _native.Plan | None, out: Tensor | None) -> int | Tensor:
        self._look_for_nonfinite(weight)
        if self.maker is None:
            fresh = torch_mask(weight, self.pattern, self.grouping)
        else:
            with torch.no_grad():
                fresh = self.maker.mask(self, weight)
        changed = (fresh != self.mask).sum()
        self.mask.copy_(fresh)
        if plan is not None:  # memory in an order that the fused mask pass does not take, but apply does
            self._checksum = plan.apply(torch.empty_like(weight) if out is None else out)
        elif out is not None:
            torch.where(self.mask, weight, weight.new_zeros(()), out=out)
        return int(changed) if weight.is_cpu else changed

    def _planned(self, weight: Tensor) -> _native.Plan | None:
        """The compiled passes for the weight where it is now; None where they cannot take it."""
        plan = self._plan
        if plan is not None and plan.fits(weight, self.mask):
            return plan
        self._plan = None
        self._match(weight)
        if _native.available_for(weight) and self.mask.stride() == weight.stride():
            self._plan = _native.Plan(weight, self.mask, self._layout(weight), self.pattern.n, self.pattern.m)
        return self._plan

    def _match(self, weight: Tensor) -> None:
        """Let the mask follow its weight to another device, memory format or share of its rows."""
        mask = self.mask
        if mask.device == weight.device and mask.stride() == weight.stride() and mask.shape == weight.shape:
            return
        if mask.dim() != weight.dim():
            raise RuntimeError(
                f"{self.name} has become a tensor of shape {tuple(weight.shape)}, as FSDP 1 flattens weights, and no "
                "group can be seen in it: use torch.distributed.fsdp.fully_shard, or finalize() first"
            )
        if self.maker is not None and mask.shape != weight.shape:
            raise RuntimeError(f"{self.name} is sharded now: {self.maker.name} makes its masks of whole weights")
        with torch.inference_mode(False):  # a mask made in there could not be renewed in place outside
            like = torch.empty_like(weight, dtype=torch.bool, memory_format=torch.preserve_format)
            moved = mask if mask.shape == weight.shape else mask_of(weight, self.pattern, self.grouping)
            self.mask = like.copy_(moved)

    def _stale(self, weight: Tensor) -> bool:
        """Is the mask possibly not that of the current weights, as far as is known without reading them?

        To be asked after `_planned`.
        """
        if self._seen != self._identity(weight):
            return True
        verified_later = self._plan is not None or self.maker is not None
        return not verified_later and self.scope.depth > 0 and self._made_in != self.scope.serial

    def refresh(self) -> None:
        """Make the mask current if the rule says that it follows the weights. Counts no flips."""
        if self.rule not in STAYS:
            self.update()

    def ensure_current(self) -> Tensor:
        """Refresh if the weights are known to have changed since the mask was made. Returns the weights."""
        values = self.values
        plan = self._planned(values)
        if self.rule not in STAYS and self._stale(values):
            self._update(values, plan)
        return values

    def invalidate(self) -> None:
        """Called on train() and eval(): trust nothing that was made before."""
        if self._plan is None:
            self._seen = None
        self._cache = self._ready = None

    def bake(self) -> None:
        """W <- E * W in place."""
        weight = self.values
        with torch.no_grad():
            self._planned(weight)
            weight.masked_fill_(~self.mask, 0.0)
        self._seen = None
        self._cache = None

    def drop_cache(self) -> None:
        """Let go of the masked weight of the last forward pass (and of its graph)."""
        self._cache = self._ready = None


def renew(weights: Sequence[KeptMask], *, masked: bool = False) -> list[int | Tensor]:
    """`update` for each, those on a GPU together: the flips of each. Nothing waits for the GPU.

    masked: those on a GPU keep their masked weights ready for the forward pass that is going on; others make theirs
    when they are used, so their masks are left for that time.
    """
    values = [w.values for w in weights]
    fusable: list[int] = []
    flips: list[int | Tensor] = [0] * len(weights)
    for i, (w, weight) in enumerate(zip(weights, values, strict=True)):
        plan = w._planned(weight)
        if plan is None and w._fusable(weight):
            fusable.append(i)
        elif not masked:
            flips[i] = w._update(weight, plan)
    by_pattern: dict[tuple[int, int], list[int]] = {}
    for i in fusable:
        by_pattern.setdefault((weights[i].pattern.n, weights[i].pattern.m), []).append(i)
    for pattern, alike in by_pattern.items():
        chosen = [weights[i] for i in alike]
        data = [values[i].detach() for i in alike]
        for w, numbers in zip(chosen, data, strict=True):
            w._look_for_nonfinite(numbers)
        layouts = [layout for w in chosen if (layout := w._fused_layout) is not None]
        counts, made = chosen[0].scope.fleet.renew(data, [w.mask for w in chosen], layouts, pattern, masked=masked)
        for number, (i, w) in enumerate(zip(alike, chosen, strict=True)):
            flips[i] = counts[number]
            w._renewed(values[i], made[number] if masked else None)
    return flips
