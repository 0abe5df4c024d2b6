"""Which GPU is meant where a tensor says nothing: a launch by Triton and some library calls go to the current one."""

import contextlib
from contextlib import AbstractContextManager

import torch


def on(device: torch.device) -> AbstractContextManager[object]:
    """`device` is the current one, if it is a GPU; other devices have no current one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
