"""What the memory of a tensor allows: which tensors a compiled pass may read, and which hold numbers at all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from nmbench.sparsity.pattern import NMPattern

if TYPE_CHECKING:
    from nmbench.sparsity.mask import Grouping

_functorch = torch._C._functorch
# names of their own, since these are asked for each weight of each step
_is_wrapped, _modes, _tracing = (
    _functorch.is_functorch_wrapped_tensor,
    torch._C._len_torch_dispatch_stack,
    torch._C._get_tracing_state,
)
_PLAIN = (Tensor, nn.Parameter)


def is_plain(tensor: Tensor) -> bool:
    """Is it a Tensor or Parameter itself, of no subclass and wrapped by no functorch transform?"""
    return type(tensor) in _PLAIN and not _is_wrapped(tensor)


def watched() -> bool:
    """Is torch.compile, a dispatch mode (fake tensors, make_fx), a functorch transform or torch.jit.trace at work?

    They see torch operations and no others, and what `empty_like` makes under them may have no memory.
    """
    return (
        torch.compiler.is_compiling()
        or _modes() > 0
        or _functorch.peek_interpreter_stack() is not None
        or _tracing() is not None
    )


def readable(tensor: Tensor) -> bool:
    """Strided, on the CPU or a GPU, its storage not released (as FSDP does), of a class without a dispatch of its own.

    Such classes are fake tensors and wrappers, which have no memory or not that of their numbers.
    """
    return (
        type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and not _is_wrapped(tensor)
        and tensor.layout is torch.strided
        and (tensor.is_cpu or tensor.is_cuda)
        and (tensor.untyped_storage().nbytes() > 0 or tensor.numel() == 0)
    )


def addressable(*tensors: Tensor) -> bool:
    """May their `data_ptr()` be handed to compiled code?"""
    if watched():
        return False
    for tensor in tensors:  # a generator would take longer than the checks
        plain = type(tensor) in _PLAIN and readable(tensor)
        if not plain or tensor.untyped_storage().nbytes() < tensor.nbytes:
            return False
    return True


def numberless(tensor: Tensor) -> bool:
    """Has it a shape, but no numbers that can be looked at: on the meta device, fake, or inside a transform?"""
    fake = isinstance(tensor, torch._subclasses.FakeTensor)
    return tensor.is_meta or fake or bool(_is_wrapped(tensor))


def _dtensor() -> type | None:
    """The class, if somebody imported it: without that there is no such tensor."""
    module = sys.modules.get("torch.distributed.tensor")
    return None if module is None else module.DTensor


def opaque(tensor: Tensor) -> bool:
    """Is it a wrapper of other tensors (torchao's quantised ones), other than a DTensor and a fake tensor?"""
    kind = _dtensor()
    known = numberless(tensor) or (kind is not None and isinstance(tensor, kind))
    return bool(is_traceable_wrapper_subclass(tensor)) and not known


def local_part(tensor: Tensor, grouping: Grouping, pattern: NMPattern) -> Tensor:
    """This rank's part of a DTensor, which shares its memory; any other tensor as it is.

    Raises ValueError where the shards cut N:M groups, or hold sums that are still to be made.
    """
    kind = None if type(tensor) in _PLAIN else _dtensor()
    if kind is None or not isinstance(tensor, kind):
        return tensor
    held: Any = tensor
    for size, placement in zip(held.device_mesh.shape, held.placements, strict=True):
        if placement.is_partial() or (placement.is_shard() and size > 1 and _cuts(held, placement, grouping, pattern)):
            raise ValueError(
                f"a weight of shape {tuple(held.shape)}, sharded as {placement} over {size} ranks: the shards cut the "
                f"groups of {pattern}; shard another dimension, or leave this layer out"
            )
    with torch.no_grad():
        part: Tensor = held.to_local()
    return part


def _cuts(tensor: Any, placement: Any, grouping: Grouping, pattern: NMPattern) -> bool:
    """Do this rank's rows end within a group? Shards along other dimensions than the grouped one never do."""
    if pattern.axis == "input" and placement.dim != grouping.dim:
        return False
    mesh = tensor.device_mesh.size()
    chunk = -(-tensor.shape[placement.dim] // mesh)
    return pattern.axis == "kernel" or grouping.groups > 1 or bool(chunk % pattern.m)


def with_part(tensor: Tensor, part: Tensor) -> Tensor:
    """`tensor`, a DTensor, with `part` as this rank's rows; `part` itself if `tensor` is no DTensor."""
    kind = _dtensor()
    if kind is None or not isinstance(tensor, kind):
        return part
    held: Any = tensor
    made: Tensor = kind.from_local(  # type: ignore[attr-defined]
        part, held.device_mesh, held.placements, run_check=False, shape=held.shape, stride=held.stride()
    )
    return made
