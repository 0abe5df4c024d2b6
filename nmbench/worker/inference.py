"""A finished model as it would be used: dtype, memory layout and torch's settings for inference."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nmbench._util.errors import first_line
from nmbench.contract.modes import evaluating

Inputs = tuple[Any, ...]


@contextmanager
def for_speed() -> Iterator[None]:
    """Settings of torch; put back afterwards."""
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]


class Autocast(nn.Module):
    """A model that runs under autocast to the dtype of its weights."""

    def __init__(self, model: nn.Module, kind: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.autocast = model, (kind, dtype)

    def forward(self, *inputs: Any) -> Any:
        """What the model gives."""
        with torch.autocast(*self.autocast):
            return self.model(*inputs)


def ready(
    model: nn.Module, inputs: Sequence[Any], device: torch.device, notes: list[str]
) -> tuple[nn.Module, Inputs, torch.dtype]:
    """(model, inputs, dtype of its weights) on `device`; what had to be tried is told in `notes`.

    A model that computes in float32 inside, as one of coordinates, runs under autocast; one that does not run in 16
    bits at all stays as it is.
    """
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if device.type != "cuda":
        return model, moved(inputs, device, None), own
    for dtype in (torch.bfloat16, torch.float16):
        narrow = copy.deepcopy(model).to(dtype).to(memory_format=torch.channels_last)
        for tried, given in (
            (narrow, moved(inputs, device, dtype)),
            (Autocast(narrow, device.type, dtype), moved(inputs, device, None)),
        ):
            name = f"{str(dtype).removeprefix('torch.')}{'' if tried is narrow else ' under autocast'}"
            try:
                with evaluating(tried):
                    tried(*given)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # an operator without this dtype, of whatever library
                notes.append(f"it does not run in {name}: {first_line(error)[:200]}")
                continue
            if tried is not narrow:
                notes.append(f"it runs in {name}")
            return tried, given, dtype
    return model, moved(inputs, device, None), own


def moved(inputs: Sequence[Any], device: torch.device, dtype: torch.dtype | None) -> Inputs:
    """Tensors, in whatever they are nested, on the device; floating-point ones in `dtype`, images channels_last."""

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(device, dtype if value.is_floating_point() else None)
        images = device.type == "cuda" and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if images else value

    result: Inputs = tuple(pytree.tree_map(move, list(inputs)))
    return result
