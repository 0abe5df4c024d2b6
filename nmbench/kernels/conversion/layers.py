"""The layers that a converted model has in place of linear and convolution layers. For inference: no gradient.

Each loads its own state dict and that of the layer it stands for. `weight` can be read, and is unpacked at each access.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmbench.kernels.conversion.watch import Call
from nmbench.kernels.nmtensor import compress
from nmbench.kernels.packed import PARTS, PackedWeight, parts_of
from nmbench.kernels.problem import Problem, conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern

_LIKE = "like"
_MOST_SHAPES = 8


class SparseLayer(nn.Module):
    """What both have: `packed` (shared by layers that share a weight) and `bias` (the original's own parameter)."""

    #: for those who count and choose weights
    holds_a_packed_weight = True
    packed: PackedWeight
    bias: nn.Parameter | None
    #: does a ReLU follow, which the product does? see nmbench.kernels.conversion.fuse
    relu = False

    def __init__(self, packed: PackedWeight, layer: nn.Linear | nn.Conv2d) -> None:
        """layer: the one it stands for."""
        super().__init__()
        self.packed = packed
        # without elements, of the weight's dtype and device: models read these off their first parameter
        with torch.inference_mode(False):
            like = torch.empty(0, dtype=layer.weight.dtype, device=layer.weight.device)
        self.register_parameter(_LIKE, nn.Parameter(like, requires_grad=False))
        self.register_parameter("bias", layer.bias)  # type: ignore[arg-type]

    @property
    def weight(self) -> Tensor:
        """The dense weight, made anew at each access."""
        return self.packed.weight

    @property
    def backend(self) -> str:
        """Name of the backend that was chosen."""
        return self.packed.backend.name

    @property
    def fuses(self) -> bool:
        """Can its product add a tensor and end in a ReLU?"""
        return self.packed.running.fuses

    def _cast(self, x: Tensor) -> Tensor:
        """x in the weight's dtype. Raises RuntimeError if it is not of it, outside autocast."""
        dtype = self.packed.problem.dtype
        if x.dtype == dtype:
            return x
        if x.dtype.is_floating_point and torch.is_autocast_enabled(x.device.type):
            return x.to(dtype)
        raise RuntimeError(f"a layer converted for {dtype} got an input of {x.dtype}")

    def _result(self, y: Tensor) -> Tensor:
        """y; under autocast in its dtype, which is what a dense layer gives there. The sums are the weight's own."""
        kind = y.device.type
        return y.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else y

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.pop(prefix + _LIKE, None)

    def _load_from_state_dict(  # type: ignore[no-untyped-def]
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        state_dict[prefix + _LIKE] = self._parameters[_LIKE]
        # that of the layer it stands for; this dict is torch's own copy
        dense = state_dict.pop(f"{prefix}weight", None)
        if dense is not None:
            try:
                if tuple(dense.shape) != self.packed.problem.weight:
                    raise ValueError(f"{prefix}weight has shape {tuple(dense.shape)}")
                stored = compress(dense, self.packed.problem.pattern, f"{prefix}weight")
            except ValueError as error:
                error_msgs.append(str(error))
                stored = self.packed.stored()  # as it was
            state_dict.update(zip([f"{prefix}packed.{part}" for part in PARTS], parts_of(stored), strict=True))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class SparseLinear(SparseLayer):
    """y = x W^T + bias with W packed."""

    def __init__(self, packed: PackedWeight, layer: nn.Linear) -> None:
        """layer: the one it stands for."""
        super().__init__(packed, layer)
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, input: Tensor, addend: Tensor | None = None) -> Tensor:
        """(..., in) -> (..., out). addend: of the result's shape, where one is fused."""
        packed = self.packed
        if input.dtype is not packed.problem.dtype or torch.is_autocast_enabled(input.device.type):
            return self._result(packed.product(self._cast(input), self.bias, addend, self.relu))
        return packed.product(input, self.bias, addend, self.relu)

    def extra_repr(self) -> str:
        """As torch.nn.Linear says."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class SparseConv2d(SparseLayer):
    """A convolution with its weight packed; its output has the memory format that the dense layer's would have."""

    def __init__(self, packed: PackedWeight, layer: nn.Conv2d) -> None:
        """layer: the one it stands for."""
        super().__init__(packed, layer)
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
            setattr(self, name, getattr(layer, name))
        self.padding_mode = layer.padding_mode
        #: what is to be added before a convolution without padding, as F.pad takes it; None where a backend pads
        self.around = list(layer._reversed_padding_repeated_twice) if symmetric_padding(layer) is None else None
        weight = layer.weight
        self.channels_last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()

    def forward(self, input: Tensor, addend: Tensor | None = None) -> Tensor:
        """(N, in, H, W) or (in, H, W) -> (N, out, H', W') or (out, H', W'). addend: as that, where one is fused."""
        x = self._cast(input)
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0), addend if addend is None else addend.unsqueeze(0)).squeeze(0)
        stays = self.channels_last or x.is_contiguous(memory_format=torch.channels_last)
        if self.around is not None:
            x = F.pad(x, self.around, mode="constant" if self.padding_mode == "zeros" else self.padding_mode)
        y = self._result(self.packed.product(x, self.bias, addend, self.relu))
        return y if stays else y.contiguous()

    def extra_repr(self) -> str:
        """The main arguments of torch.nn.Conv2d."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "groups")}
        return f"{self.in_channels}, {self.out_channels}, " + ", ".join(f"{k}={v}" for k, v in shown.items())


def symmetric_padding(layer: nn.Conv2d) -> tuple[int, int] | None:
    """(height, width) that a backend adds in zeros on both sides; None if it cannot be said so."""
    if layer.padding_mode != "zeros":
        return None
    if not isinstance(layer.padding, str):
        return int(layer.padding[0]), int(layer.padding[1])
    if layer.padding == "valid":
        return 0, 0
    total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return None if any(t % 2 for t in total) else (total[0] // 2, total[1] // 2)


def sparse_layer(packed: PackedWeight, module: nn.Linear | nn.Conv2d) -> SparseLinear | SparseConv2d:
    """What stands in place of `module`."""
    made = SparseLinear(packed, module) if isinstance(module, nn.Linear) else SparseConv2d(packed, module)
    return made.train(module.training)


@dataclass(frozen=True)
class Layer:
    """A weight that keeps to `pattern`, and the modules that use it, all of one kind and with equal arguments."""

    modules: tuple[nn.Linear | nn.Conv2d, ...]
    pattern: NMPattern
    calls: Counter[Call]

    @property
    def weight(self) -> Tensor:
        """The baked weight, contiguous."""
        return self.modules[0].weight.detach().contiguous()

    def problem(self, call: Call) -> Problem:
        """For an input as `call` says."""
        module, weight = self.modules[0], self.modules[0].weight
        if isinstance(module, nn.Linear):
            return linear_problem(tuple(weight.shape), call.shape, self.pattern, weight.dtype, weight.device)
        shape = call.shape if len(call.shape) == 4 else (1, *call.shape)
        zeros = symmetric_padding(module)
        if zeros is None:
            left, right, top, bottom = module._reversed_padding_repeated_twice
            shape = (*shape[:2], shape[2] + top + bottom, shape[3] + left + right)
        about = (tuple(weight.shape), shape, self.pattern, weight.dtype, weight.device)
        stride, dilation = ((first, second) for first, second in (module.stride, module.dilation))
        return conv2d_problem(*about, stride, zeros or (0, 0), dilation, module.groups)

    @property
    def most(self) -> list[tuple[Call, int]]:
        """The calls that are timed: those that come most often."""
        return self.calls.most_common(_MOST_SHAPES)
