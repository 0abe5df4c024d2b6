"""What the authors' own code makes of known inputs (tests/golden/README.md), and a method on one weight of these."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from nmbench.sparsity import Handle, Layer, sparsify
from nmbench.sparsity.attach import weights_of

FOLDER = Path(__file__).parent.parent / "golden"


def golden(name: str) -> dict[str, Tensor]:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 # not a dict


def metadata(name: str) -> dict[str, str]:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        return file.metadata() or {}


def on_weight(weight: Tensor, pattern: str, method: str, **settings: Any) -> tuple[nn.Module, Handle, Layer]:
    """A network of one layer, without bias, with this weight; its handle, and the layer as the method sees it."""
    out, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, out, kernel[0], padding=kernel[0] // 2, bias=False) if kernel else None
    model = nn.Sequential(layer or nn.Linear(inputs, out, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(weight)
    handle = sparsify(model, pattern, method, **settings)
    return model, handle, weights_of(model)[0]


def at(handle: Handle, step: int) -> None:
    """Let the method believe that so many steps are done."""
    handle.method.now.step = step


def off(made: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    gap = (made.double() - expected.double()).abs().max()
    return float(gap / expected.double().abs().max().clamp(min=1e-30))
