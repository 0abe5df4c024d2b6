"""Layers that stay dense in a converted model on a CPU, by oneDNN's products with weights that are reordered once.

They are torch's own layers otherwise, with the same parameters: torch's forward pass runs wherever oneDNN's may not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nmbench._util.files import loads
from nmbench.kernels import prepacked
from nmbench.kernels.conversion.layers import symmetric_padding
from nmbench.kernels.conversion.survey import has_hooks
from nmbench.kernels.problem import Problem, conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern
from nmbench.sparsity.memory import watched

_ANY = NMPattern(1, 1)
#: (the weight that was reordered and what tells its changes, the reordered one, the product with it)
_Held = tuple[tuple[Any, ...], Tensor, prepacked.Product]


class ReorderedLayer(nn.Module):
    """What both have. The reordered weight is made at the first call, and anew when the weight has changed.

    A change through `weight.data` is not seen, as torch counts none: load a state dict, or change it under no_grad.
    """

    fuses = True
    #: does a ReLU follow? see nmbench.kernels.conversion.fuse
    relu = False
    _held: _Held | None = None

    def forward(self, input: Tensor, addend: Tensor | None = None) -> Tensor:
        """As the layer's. addend: of the result's shape, where one is fused."""
        run = None if self._tracked(addend) else self._product(input)
        if run is None:
            y: Tensor = super().forward(input)
            y = y if addend is None else y + addend
            return y.relu() if self.relu else y
        _, held, product = run
        x = self._laid_out(input)
        shift = self._parameters["bias"]
        bias = None if shift is None else shift.detach()
        with torch.no_grad():
            result: Tensor = product(x, held, bias, None if addend is None else self._laid_out(addend), self.relu)
        return result

    def _tracked(self, addend: Tensor | None) -> bool:
        """Does a gradient go anywhere but to the input and the weight?"""
        others = self._parameters["bias"], addend
        return torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in others)

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    def _product(self, x: Tensor) -> _Held | None:
        """None where torch's own forward pass is to run."""
        weight = weight_of(self)
        plain = x.device.type == "cpu" and x.dtype == weight.dtype and x.numel() and x.dim() >= 2
        tracked = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if not plain or tracked or watched() or torch.is_autocast_enabled("cpu"):
            return None
        now = weight, weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version
        held = self._held
        # the parameter itself is held: of one that is gone a new one may have the address
        if held is None or held[0][0] is not weight or held[0][1:] != now[1:]:
            made = prepacked.prepack(weight.detach(), problem_of(self, tuple(x.shape)))
            if made is None:
                return None
            held = self._held = (now, *made)
        return held

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_held"}


class ReorderedLinear(ReorderedLayer, nn.Linear):
    """y = x W^T + bias."""


class ReorderedConv2d(ReorderedLayer, nn.Conv2d):
    """A convolution; its output is channels_last."""

    def _product(self, x: Tensor) -> _Held | None:
        return super()._product(x) if x.dim() == 4 else None


def weight_of(layer: nn.Module) -> nn.Parameter:
    """The parameter, of a layer that has one."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def problem_of(layer: nn.Module, shape: tuple[int, ...]) -> Problem:
    """Of a layer with an input of `shape`."""
    weight = weight_of(layer)
    about = tuple(weight.shape), shape, _ANY, weight.dtype, weight.device
    if isinstance(layer, nn.Linear):
        return linear_problem(*about)
    assert isinstance(layer, nn.Conv2d)
    (s, t), (d, e) = layer.stride, layer.dilation
    return conv2d_problem(*about, (s, t), symmetric_padding(layer) or (0, 0), (d, e), layer.groups)


def takes(layer: nn.Module) -> bool:
    """Is it a plain linear layer, or a convolution in channels last that pads as oneDNN does, and nothing else?"""
    weight = layer._parameters.get("weight")  # weight_norm leaves a tensor of another kind there
    if weight is None or type(weight.data) is not Tensor or weight.layout != torch.strided or has_hooks(layer):
        return False
    if weight.device.type != "cpu" or not weight.is_floating_point():
        return False
    if type(layer) is nn.Conv2d:
        return symmetric_padding(layer) is not None and weight.is_contiguous(memory_format=torch.channels_last)
    return type(layer) is nn.Linear


def reordered(layer: nn.Module) -> ReorderedLayer:
    """What stands in place of `layer`, which `takes` it; they share their parameters."""
    kind: type[ReorderedLayer] = ReorderedLinear if isinstance(layer, nn.Linear) else ReorderedConv2d
    made = kind.__new__(kind)
    made.__dict__ = {name: dict(held) if name == "_parameters" else held for name, held in layer.__dict__.items()}
    return made


def reordered_names(model: nn.Module) -> list[str]:
    """Of the layers that are."""
    return [name for name, module in model.named_modules() if isinstance(module, ReorderedLayer)]


def reorder(model: nn.Module, names: str) -> dict[nn.Module, nn.Module]:
    """What stands in place of the layers that `names` (a list in JSON) names, as far as they can be reordered here."""
    listed = loads(names)
    wanted = set(map(str, listed)) if isinstance(listed, list) else set()
    return {module: reordered(module) for name, module in model.named_modules() if name in wanted and takes(module)}
