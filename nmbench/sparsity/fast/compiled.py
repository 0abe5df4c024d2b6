"""The masked weight inside a graph of torch.compile, as one operator: on a GPU one fused pass over the weight.

Elsewhere the graph has plain torch operations (layer.py), which Inductor fuses on a CPU. Masks and flips are not made
in here: `step()` makes them outside of the graph.
"""

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.mask import Grouping, physical_layout, torch_mask
from nmbench.sparsity.pattern import NMPattern

# looked up once: a trace takes them for constants
_TRITON = importlib.util.find_spec("triton") is not None and torch.version.hip is None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def takes(weight: Tensor) -> bool:
    """On a GPU, or on a CPU under TRITON_INTERPRET=1, where triton is installed; not for export. Can be traced."""
    return _TRITON and (weight.device.type == "cuda" or _INTERPRETED) and not torch.compiler.is_exporting()


@torch.library.custom_op(
    "nmbench::masked_weight",
    mutates_args=(),
    schema="(Tensor weight, int n, int m, bool kernel, int dim, int groups) -> Tensor",
)
def masked_weight(weight: Tensor, n: int, m: int, kernel: bool, dim: int, groups: int) -> Tensor:
    """E * W, of the shape and strides of W. kernel: axis "kernel". dim, groups: of nmbench.sparsity.mask.Grouping.

    By the fused pass where it takes the weight, else by torch operations; equal results. The gradient of W is that of
    the result.
    """
    pattern, grouping = NMPattern(n, m, "kernel" if kernel else "input"), Grouping(dim, groups)
    layout = physical_layout(weight, grouping, pattern.axis)
    if layout is not None and _fused.takes(weight):
        return _fused.masked(weight, layout, (n, m))
    kept = torch_mask(weight, pattern, grouping)
    return torch.where(kept, weight, weight.new_zeros(()), out=torch.empty_like(weight))


@masked_weight.register_fake
def _(weight: Tensor, n: int, m: int, kernel: bool, dim: int, groups: int) -> Tensor:
    return torch.empty_like(weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
    return grad, None, None, None, None, None


masked_weight.register_autograd(_backward)
