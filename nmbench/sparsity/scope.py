"""Knows when a forward pass begins and ends, of the model or of a part of it, by hooks on its modules."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx._symbolic_trace import is_fx_symbolic_tracing

from nmbench.sparsity.fast import fused as _fused

if TYPE_CHECKING:
    from nmbench.sparsity.kept_mask import KeptMask


def traced_by_fx() -> bool:
    """By symbolic_trace, that is, which sees calls of functions; make_fx, which sees operations, has a mode."""
    return not torch.compiler.is_compiling() and is_fx_symbolic_tracing() and not torch._C._len_torch_dispatch_stack()


class Scope:
    """Counts nested forward passes. `serial` names the outermost that is going on.

    Attributes:
        depth: how many modules are in their forward pass right now.
        traced: did the outermost begin while torch.fx was tracing?
        whole: is the outermost of them the model that was made sparse, and not a part of it?
        weights: all sparse weights of the model. used: those that keep a masked weight until the pass ends.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.serial = 0
        self.whole = False
        self.traced = False
        self.weights: list[KeptMask] = []
        self.used: list[KeptMask] = []
        self.fleet = _fused.Fleet()

    def enter_model(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook of the model itself."""
        self._enter(whole=True)

    def enter_part(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook of each module that holds sparse weights, itself or further down."""
        self._enter(whole=False)

    def _enter(self, *, whole: bool) -> None:
        if torch.compiler.is_compiling():  # nothing is cached in there, so nothing is counted
            return
        if self.depth == 0:
            self.serial += 1
            self.whole = whole
            self.traced = traced_by_fx()
            for weight in self.weights:
                weight.follow()
        self.depth += 1

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook; runs after an exception too."""
        if torch.compiler.is_compiling():
            return
        self.depth = max(0, self.depth - 1)
        if self.depth == 0:
            for weight in self.used:  # or the masked weights would take memory until the next forward pass
                weight.drop_cache()
            self.used.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "depth": 0, "used": []}
