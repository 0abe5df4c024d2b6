"""One sparse weight while it trains: its mask, and the masked weight that a forward pass sees.

    SparseWeight   parameter -> masked weight with a straight-through gradient (kept_mask.py has the mask)

Invariant: a masked weight is reused only within one forward pass of the model, and the mask behind it is never stale.
On the CPU each reuse of a mask verifies a checksum of the weight in the same pass that multiplies, so changes through
`.data` are seen too.

On a GPU there is no number to compare without waiting for it, and a pass that verified a mask would move more bytes
than one that makes it. So the first sparse weight that a forward pass asks for makes all masks anew and all masked
weights with them, in one launch (fast/fused.py); `step()` makes the masks once more, since flips are those of the
weights right after the update and an average may be swapped in before the next forward pass. A change that a version
counter sees is seen at each use, one through `.data` when the next forward pass begins; where only a part of the model
runs, a mask is made at each use. The masked weights of a pass share one block of memory, as large as the sparse
weights, which lives as long as any of them: in training until backward is through.

What a layer computes with may be no parameter that compiled code can read: a DTensor, a tensor inside vmap or a trace,
a weight that FSDP gathered. Then the plain formula makes it (formula.py). Of a sharded weight the mask is this rank's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.nn import Parameter

from nmbench.sparsity import formula
from nmbench.sparsity.fast.native import Plan
from nmbench.sparsity.handed import hand_out
from nmbench.sparsity.kept_mask import DENSE, HOLD, KEEP, STAYS, KeptMask, renew
from nmbench.sparsity.memory import addressable, is_plain, local_part, opaque, watched
from nmbench.sparsity.methods.base import overrides

if TYPE_CHECKING:
    from nmbench.sparsity.methods.base import Method

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


class SparseWeight(KeptMask):
    """A parameter, its mask, and the masked weight of the forward pass that is going on."""

    _cached_for: tuple[int, ...] = ()
    _buffer: Tensor | None = None
    _buffer_of: object = None  # the plan whose memory layout it has
    _room = 0
    #: the method, where it overrides `forward` or `product`
    method: Method | None = None
    own_forward = own_product = False

    def serve(self, method: Method) -> None:
        """Ask `method` for what it overrides of `mask`, `forward` and `product`."""
        own = overrides(method)
        self.maker = method if "mask" in own else None
        self.own_forward, self.own_product = "forward" in own, "product" in own
        self.method = method if self.own_forward or self.own_product else None

    def masked(self, weight: Tensor, plan: Plan | None, seen: tuple[int, ...]) -> Tensor:
        """E * W, detached, in memory that the next call may use again once nobody holds this tensor's storage."""
        if plan is not None and self.rule == KEEP:
            plan.apply(out := self._memory(weight))
            return out
        if plan is not None and self._seen == seen and self.rule not in STAYS:
            out = self._memory(weight)
            if plan.apply(out) != self._checksum:
                self._update(weight, plan, out)  # changed through .data, which no version counter sees
            return out
        if plan is None and self.rule not in STAYS and self._fusable(weight):
            return self._fused(weight)
        out = self._memory(weight)
        if self.rule in STAYS:
            return torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
        if self.scope.depth == 0 or self._stale(weight):
            self._update(weight, plan, out)
        else:
            torch.where(self.mask, weight.detach(), weight.new_zeros(()), out=out)
        return out

    def _fused(self, weight: Tensor) -> Tensor:
        """As `masked`, where a pass over many weights takes this one."""
        scope = self.scope
        if scope.whole and scope.depth > 0 and self._made_in != scope.serial:
            present = [w for w in scope.weights if w.rule not in STAYS and w.parameter.shape == w.mask.shape]
            renew(present, masked=True)
        elsewhere = self._made_in != scope.serial or scope.depth == 0
        if self._ready is None or elsewhere or self._seen != self._identity(weight):
            renew([self], masked=True)
        assert self._ready is not None
        return self._ready

    def _memory(self, weight: Tensor) -> Tensor:
        """Memory for a masked weight: that of the last one if nobody holds it any more.

        Fresh memory costs page faults, on a CPU more than the masking itself (three times, for ResNet-18).
        """
        if self._plan is None or _use_count is None:
            self._buffer = None
            return torch.empty_like(weight.detach(), memory_format=torch.preserve_format)
        if self._plan is not self._buffer_of or self._buffer is None or _use_count(self._room) > _ALONE:
            self._buffer = torch.empty_like(weight.detach(), memory_format=torch.preserve_format)
            self._room = self._buffer.untyped_storage()._cdata
            self._buffer_of = self._plan
        return self._buffer

    def forward(self, value: Tensor) -> Tensor:
        """What the layer computes with: `value`, which it holds under this weight's name, masked unless rule DENSE.

        value: the parameter, or what stands in its place for now (in torch.func, under FSDP).
        """
        if self.rule == DENSE:
            return value
        if self.method is not None:
            return self._by_method(value)
        plan = self._plan
        if plan is not None and type(value) is Parameter and not watched() and plan.fits(value, self.mask):
            return self._straight_through(value, plan)  # a plan is of addressable memory, and this is that memory
        held = self.mask if self.rule in STAYS or self.maker is not None else None
        if torch.compiler.is_compiling():
            return formula.in_graph(value, held, self.pattern, self.grouping)
        if torch._C._get_tracing_state() is not None:
            return formula.in_trace(value, held, self.pattern, self.grouping)
        own = value is self.module._parameters.get(self.key)
        if own and value.shape == self.mask.shape and addressable(value):
            return self._straight_through(value, self._planned(value))
        if opaque(value):
            _ = self.values  # says why not
        if (
            held is not None
            and self.rule != HOLD
            and local_part(value, self.grouping, self.pattern).shape != held.shape
        ):
            raise ValueError(f"{self.name} is gathered from shards, and its mask is of one: train it unsharded")
        return formula.straight_through(value, held, self.pattern, self.grouping)

    @_disable_dynamo  # a graph breaks here; the rest of the model is compiled
    def _by_method(self, value: Tensor) -> Tensor:
        """As `forward`, by a method that overrides `forward` or `product`."""
        assert self.method is not None
        if not is_plain(value) or value.shape != self.mask.shape:
            raise ValueError(
                f"{self.name}: {self.method.name} computes the weight itself, of a plain tensor: not of a "
                f"{type(value).__name__}, nor under torch.func or FSDP"
            )
        if not self.own_forward:
            return hand_out(self._straight_through(value, self._planned(value)), self)
        within = self.scope.depth > 0
        identity = (*self._identity(value), self.scope.serial, torch.is_grad_enabled())
        if self._cache is None or not within or self._cached_for != identity:
            self._current_for_method(value)
            made = self.method.forward(self, value)
            self._graded = identity[2] if made.requires_grad else self._graded
            self._cache, self._cached_for = made, identity
            self.scope.used.append(self)
        made = self._cache
        if not within:
            self.drop_cache()
        return hand_out(made, self) if self.own_product else made

    def _current_for_method(self, value: Tensor) -> None:
        """The mask of each forward pass is that of the weights it runs with, where it follows them."""
        plan = self._planned(value)
        if self.rule in STAYS:
            return
        stale = self._stale(value)
        if not stale and self.maker is None and plan is not None:
            stale = plan.apply(self._memory(value)) != self._checksum  # changed through .data
        if stale:
            with torch.no_grad():
                self._update(value, plan)

    def _straight_through(self, weight: Tensor, plan: Plan | None) -> Tensor:
        scope, grad, seen = self.scope, torch.is_grad_enabled(), self._identity(weight)
        within, identity = scope.depth > 0, (*seen, scope.serial, grad)
        if self._cache is not None and within and self._cached_for == identity:
            return self._cache
        if grad and weight.requires_grad and not torch.is_inference_mode_enabled():
            # Straight-through: a view hands its gradient to the parameter unchanged, and its values are set to E * W.
            # The same as an autograd.Function that returns its gradient, without Python in the backward pass.
            masked = weight.view_as(weight)
            masked.data = self.masked(weight, plan, seen)
            self._graded = seen[2]
        else:
            # a leaf like the parameter itself, in inference mode too: torch chooses some kernels by these properties,
            # and so each bit is as in the dense model
            with torch.inference_mode(False), torch.no_grad():
                masked = self.masked(weight, plan, seen).detach().requires_grad_(weight.requires_grad)
        if within:
            self._cache, self._cached_for = masked, identity
            scope.used.append(self)
        return masked

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle gets a parameter of its own, so nothing that was seen of this one holds for it
        gone = ("_cache", "_seen", "_plan", "_buffer", "_buffer_of", "_ready")
        return {**self.__dict__, **dict.fromkeys(gone), "_cached_for": ()}
