"""Fused passes over the weights of a whole model on a GPU, by Triton: one launch, however many layers.

Triton is imported when the first weight on a GPU is seen. Where it is missing, or NMBENCH_NATIVE=0 is set, the torch
operations with equal results run. On a CPU the passes run only under TRITON_INTERPRET=1 with NMBENCH_NATIVE=0, which is
for tests.
"""

import functools
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nmbench._util.devices import on
from nmbench.sparsity.fast import native as _native
from nmbench.sparsity.memory import addressable

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
#: (outer, size, inner) of a weight's memory, see mask.physical_layout
Layout = tuple[int, int, int]


@functools.cache
def _switched_off() -> bool:
    return importlib.util.find_spec("triton") is None or torch.version.hip is not None


@functools.cache
def _gpu_is_new_enough(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def available(device: torch.device) -> bool:
    """Whether Triton passes run there: a GPU of compute capability 8.0 or newer, and NMBENCH_NATIVE is not 0.

    Not while torch.compile traces: the launches cannot be traced, and torch code of equal results can.
    """
    if torch.compiler.is_compiling() or _switched_off():
        return False
    if device.type == "cuda":
        return os.environ.get("NMBENCH_NATIVE") != "0" and _gpu_is_new_enough(device)
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1" and _native.library() is None


def takes(weight: Tensor) -> bool:
    """Whether the passes take `weight`: plain, where they are available, floating, not too large."""
    if weight.is_cpu and _native.library() is not None:
        return False  # asked for each layer of each step, so the usual case is out first
    small = 0 < weight.numel() <= 2**31 - 4096  # the last tile too has indices of 32 bits
    return weight.dtype in _DTYPES and small and available(weight.device) and addressable(weight)


class Fleet:
    """Passes over some weights of one model; its tables are made again when a weight or mask lies elsewhere."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, Any]] = {}

    def renew(
        self,
        weights: Sequence[Tensor],
        masks: Sequence[Tensor],
        layouts: Sequence[Layout],
        pattern: tuple[int, int],
        *,
        masked: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Make each mask (bool, of its weight's strides) that of its weight, in place, without synchronisation.

        All of the weights are such that `takes` says yes; they may lie on several devices and be of several dtypes.

        Returns:
            (flips, masked weights): for each weight a 0-d int64 tensor on its device, and with `masked` the masked
            weight, of its shape and strides. The masked weights of one call share fresh memory.
        """
        flips: list[Tensor] = [weights[0]] * len(weights)
        made: list[Tensor] = []
        if masked:
            made = list(flips)
        for chosen in _alike(weights):
            some = [weights[i] for i in chosen], [masks[i] for i in chosen], [layouts[i] for i in chosen]
            device = some[0][0].device
            with on(device), torch.inference_mode(False), torch.no_grad():
                pass_ = self._pass(*some, pattern)
                counts = torch.zeros(len(chosen), dtype=torch.int64, device=device)
                memory = pass_.memory() if masked else None
                pass_.run(memory, counts)
                for i, count in zip(chosen, counts.unbind(), strict=True):
                    flips[i] = count
                if memory is not None:
                    for i, view in zip(chosen, pass_.views(memory), strict=True):
                        made[i] = view
        return flips, made

    def _pass(self, weights: list[Tensor], masks: list[Tensor], layouts: list[Layout], pattern: tuple[int, int]) -> Any:
        from nmbench.sparsity.fast.triton_mask import Renewal

        where = [
            (w.data_ptr(), m.data_ptr(), layout, w.stride(), pattern)
            for w, m, layout in zip(weights, masks, layouts, strict=True)
        ]
        key = (weights[0].device, weights[0].dtype, len(weights) if len(weights) > 1 else weights[0].data_ptr())
        known = self._known.get(key)
        if known is None or known[0] != where:
            if len(self._known) > 2 * len(weights) + 512:  # of weights that moved away
                self._known.clear()
            known = self._known[key] = (where, Renewal(weights, masks, layouts, *pattern))
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": {}}


def masked(weight: Tensor, layout: Layout, pattern: tuple[int, int]) -> Tensor:
    """The masked weight alone, of `weight`'s shape and strides; no mask is kept and no flip is counted."""
    from nmbench.sparsity.fast.triton_mask import masked as fused

    with on(weight.device), torch.no_grad():
        return fused(weight.detach(), layout, *pattern)


#: tables by the first weight that they serve, with the addresses for which they were made
_decays: dict[Any, tuple[Any, Any]] = {}


def decay(grads: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor], lambda_w: float) -> list[int]:
    """grad += lambda_w * (1 - mask) * weight for those that a fused pass takes.

    Returns the indices of those that it does not take, which are unchanged.
    """
    taken = [
        i
        for i, (grad, weight, mask) in enumerate(zip(grads, weights, masks, strict=True))
        if takes(weight)
        and (grad.dtype, grad.device) == (weight.dtype, weight.device)
        and addressable(grad, mask)
        and grad.stride() == weight.stride() == mask.stride()
    ]
    for chosen in _alike([weights[i] for i in taken]):
        some = [taken[i] for i in chosen]
        _decay([grads[i] for i in some], [weights[i] for i in some], [masks[i] for i in some], lambda_w)
    return sorted(set(range(len(grads))) - set(taken))


def _decay(grads: list[Tensor], weights: list[Tensor], masks: list[Tensor], lambda_w: float) -> None:
    from nmbench.sparsity.fast.triton_decay import Decay

    key = (weights[0].data_ptr(), weights[0].device)
    where = [
        (g.data_ptr(), w.data_ptr(), m.data_ptr(), w.numel()) for g, w, m in zip(grads, weights, masks, strict=True)
    ]
    about = (lambda_w, weights[0].dtype, where)
    with on(weights[0].device), torch.no_grad():
        known = _decays.get(key)
        if known is None or known[0] != about:
            if len(_decays) > 512:
                _decays.clear()
            known = _decays[key] = (about, Decay(grads, weights, masks, lambda_w))
        known[1].run()


def _alike(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Indices by device and dtype."""
    found: dict[Any, list[int]] = {}
    for index, one in enumerate(tensors):
        found.setdefault((one.device, one.dtype), []).append(index)
    return list(found.values())
