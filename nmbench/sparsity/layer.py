"""One sparse weight as a method sees it: its parameter, mask and pattern, its groups, and what is kept beside it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nmbench.sparsity.mask import Grouping
from nmbench.sparsity.memory import is_plain, local_part, opaque
from nmbench.sparsity.pattern import NMPattern

if TYPE_CHECKING:
    from nmbench.sparsity.kept_mask import KeptMask


class Layer:
    """One weight (shared by all modules that its parameter is tied to).

    Attributes:
        name: of the parameter in the model when it was made sparse, for instance "layer1.0.conv1.weight".
        module, key: where the parameter is. uses: the same of each module that it is tied to.
        grouping: which dimension a group of M runs along.
        asked: the pattern of the run. pattern: the one in force; audit, cost and finalize read it.
        mask: bool, of the parameter's shape (on this rank); True is kept.
        memory: what a method keeps of this layer, by name; saved with the handle.
    """

    mask: Tensor

    def __init__(self, name: str, module: nn.Module, key: str, pattern: NMPattern, grouping: Grouping) -> None:
        self.name, self.module, self.key = name, module, key
        self.attached_as = module, key
        self.uses = [(module, key)]
        self.asked = self.pattern = pattern
        self.grouping = grouping
        self.memory: dict[str, Any] = {}
        self._seed = torch.initial_seed() % 2**62  # now, since the ranks of a training may be seeded apart later on
        #: calls this to be routed through the parameter's new place (attach.move); set when it is attached
        self.move: Callable[[KeptMask], None] | None = None
        self._extra: tuple[str, ...] = ()

    # -- the parameter ------------------------------------------------------------------------------------------
    def follow(self) -> None:
        """Go after the parameter where torch's prune, spectral_norm, weight_norm or parametrize moved it."""
        if self.key not in self.module._parameters and self.move is not None:
            self.move(self)  # type: ignore[arg-type] # a KeptMask has it set

    @property
    def parameter(self) -> Tensor:
        """The dense weight itself, which the optimizer updates."""
        weight = self.module._parameters.get(self.key)
        if weight is None:
            self.follow()
            weight = self.module._parameters[self.key]
            assert weight is not None
        return weight

    @property
    def values(self) -> Tensor:
        """The parameter, or this rank's part of it. Raises ValueError if its memory cannot be masked."""
        weight = self.parameter
        if type(weight) is nn.Parameter or is_plain(weight):
            return weight
        if opaque(weight):
            raise ValueError(
                f"{self.name} is a {type(weight).__name__} now, which cannot be masked: finalize() before it is made so"
            )
        return local_part(weight, self.grouping, self.pattern)

    @property
    def grad(self) -> Tensor | None:
        """The parameter's gradient, or this rank's part of it."""
        grad = self.parameter.grad
        return None if grad is None else local_part(grad, self.grouping, self.pattern)

    @property
    def prunes(self) -> bool:
        """Does the pattern in force leave anything out?"""
        return self.pattern.n < self.pattern.m

    # -- its groups ---------------------------------------------------------------------------------------------
    def blocks(self, tensor: Tensor, fill: float = 0.0) -> Tensor:
        """`tensor`, of the weight's shape, as (outer, groups, M, inner); a short last group is filled up with `fill`.

        A view where no group is short and the memory is row-major.
        """
        outer, size, inner = self.grouping.logical(tensor.shape, self.pattern.axis)
        m = self.pattern.m
        made = tensor.reshape(outer, size, inner)
        if short := -size % m:
            made = torch.cat([made, made.new_full((outer, short, inner), fill)], dim=1)
        return made.view(outer, -1, m, inner) if made.is_contiguous() else made.reshape(outer, -1, m, inner)

    def unblocked(self, blocks: Tensor) -> Tensor:
        """What `blocks` made, as the weight's shape again."""
        shape = self.values.shape
        outer, size, inner = self.grouping.logical(shape, self.pattern.axis)
        return blocks.reshape(outer, -1, inner)[:, :size].reshape(shape)

    def groups(self, tensor: Tensor, fill: float = 0.0) -> Tensor:
        """As `blocks`, but (groups, M): one row a group, kernel positions before the groups of the channels."""
        return self.blocks(tensor, fill).permute(0, 3, 1, 2).reshape(-1, self.pattern.m)

    def ungrouped(self, groups: Tensor) -> Tensor:
        """What `groups` made, as the weight's shape again."""
        outer, size, inner = self.grouping.logical(self.values.shape, self.pattern.axis)
        m = self.pattern.m
        return self.unblocked(groups.reshape(outer, inner, -(-size // m), m).permute(0, 2, 3, 1))

    @property
    def outputs(self) -> Grouping:
        """Grouping along the outputs, which the product of the backward pass sums over."""
        return Grouping(0, int(getattr(self.module, "groups", 1))) if self.grouping.dim == 1 else Grouping(1)

    # -- what is kept beside it ---------------------------------------------------------------------------------
    @property
    def extra(self) -> dict[str, nn.Parameter]:
        """The learnable tensors that the method asked for: parameters of the module, `<key>_<name>` there."""
        held = self.module._parameters
        return {name: parameter for name in self._extra if (parameter := held.get(f"{self.key}_{name}")) is not None}

    def register(self, extra: dict[str, nn.Parameter]) -> None:
        """Put learnable tensors beside the weight. Raises ValueError if the module has such a name already."""
        for name, parameter in extra.items():
            if hasattr(self.module, f"{self.key}_{name}"):
                raise ValueError(f"{self.name}: its module has a {self.key}_{name} of its own already")
            self.module.register_parameter(f"{self.key}_{name}", parameter)
        self._extra = tuple(extra)

    def survive(self, kind: type[nn.Module]) -> None:
        """Let the modules be of class `kind` from now on, with the learnable tensors."""
        extra = self.extra
        for module, _ in self.uses:
            for name, parameter in extra.items():
                module.register_parameter(f"{self.key}_{name}", parameter)
            module.__class__ = kind

    def drop_extra(self) -> None:
        """Take them away again."""
        for name in self._extra:
            self.module._parameters.pop(f"{self.key}_{name}", None)
        self._extra = ()

    def generator(self, *place: int) -> torch.Generator:
        """A generator of this layer's own at `place` (a step, a draw), so that twins and resumed runs draw alike.

        It depends on the seed that torch's generator had when the model was made sparse, and draws nothing from that.
        """
        seed = self.memory.setdefault("seed", self._seed)
        text = f"{self.name} {seed} {place}".encode()
        made = torch.Generator(self.values.device)
        return made.manual_seed(zlib.crc32(text) << 32 | zlib.adler32(text))
