"""Which channels a layer reads and makes: convolutions, linear layers, normalisation, attention, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from nmbench.sparsity.permutation.rules import Unknown, Value
from nmbench.sparsity.permutation.spaces import Channels, Couplings, Part, Space, Touch, couple
from nmbench.sparsity.select import is_conv1d

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
#: each number by itself, whatever the channel
_POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
)  # fmt: skip
#: each channel of an image by itself, along dimension 1
_SPATIAL = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d,
)  # fmt: skip
_NORMS = (nn.LayerNorm, nn.RMSNorm)
_WEIGHTED = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear, nn.Embedding)
_STOCK = (
    *_CONVOLUTIONS, *_TRANSPOSED, *_BATCH_NORMS, *_POINTWISE, *_SPATIAL, *_NORMS, nn.Linear, nn.GroupNorm, nn.PReLU,
    nn.Embedding, nn.MultiheadAttention, nn.Flatten,
)  # fmt: skip


def is_layer(module: nn.Module) -> bool:
    """Is it one that the graph does not look into: of torch's, of transformers' Conv1D, or without anything inside?"""
    if isinstance(module, _STOCK) or is_conv1d(module):
        return True
    return type(module).__module__.startswith("torch.nn.modules.") and not any(True for _ in module.children())


def _own_forward(module: nn.Module) -> bool:
    """Does a subclass of a layer of torch's compute something else?"""
    stock = next((cls for cls in type(module).__mro__ if cls.__module__.startswith("torch.nn.modules.")), None)
    return stock is None or any(getattr(type(module), n, None) is not getattr(stock, n, None) for n in _FORWARDS)


_FORWARDS = ("forward", "_conv_forward")


def read_layer(module: nn.Module, inputs: list[Value], ndim: int, couplings: Couplings) -> Any:
    """Channels of the layer's output; NotImplemented where the order of its input may not change.

    inputs: what is known of its tensors. ndim: dimensions of the first.
    """
    if is_conv1d(module):
        return _linear(module, inputs[0], ndim, couplings, rows=1)
    weightless = isinstance(module, _WEIGHTED) and module._parameters.get("weight") is None  # it is computed
    if _own_forward(module) or weightless or not inputs:
        return NotImplemented
    for kinds, rule in _RULES:
        if isinstance(module, kinds):
            return rule(module, inputs[0], ndim, couplings)
    if isinstance(module, nn.MultiheadAttention):
        return _attention(module, inputs, couplings)
    return NotImplemented


def _known(value: Value, dim: int, size: int) -> Channels | None:
    """Channels along `dim`; fixed ones for a tensor of which nothing is known; None if they lie along another."""
    if isinstance(value, Channels):
        return value if value.dim == dim and value.size == size else None
    why = value.why if isinstance(value, Unknown) else "its input is not one tensor"
    return Channels(dim, (Part(Space(size, why)),))


def _made(module: nn.Module, dim: int, size: int, rows: int, couplings: Couplings) -> Channels:
    """The channels that a layer makes: those of its weight's dimension `rows`, and of its bias."""
    made = Channels(dim, (Part(Space(size)),))
    couplings.add(Touch(module, "weight", rows, made))
    couplings.add(Touch(module, "bias", 0, made))
    return made


def _convolution(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    if ndim != len(module.kernel_size) + 2 or (given := _known(value, 1, module.in_channels)) is None:
        return NotImplemented
    if module.groups == 1:
        reads = 0 if module.transposed else 1
        couplings.add(Touch(module, "weight", reads, given, read=True))
        return _made(module, 1, module.out_channels, 1 - reads, couplings)
    space = given.one
    if module.transposed or space is None:
        return NotImplemented
    if module.groups == module.in_channels:  # depthwise: its rows are the channels themselves
        out = Channels(1, (Part(space, module.out_channels // module.in_channels),))
        couplings.add(Touch(module, "weight", 0, out))
        couplings.add(Touch(module, "bias", 0, out))
        return out
    space.divide(module.groups)
    couplings.add(Touch(module, "weight", 1, given, read=True, groups=module.groups))
    made = _made(module, 1, module.out_channels, 0, couplings)
    made.parts[0].space.divide(module.groups)
    return made


def _linear(module: Any, value: Value, ndim: int, couplings: Couplings, rows: int = 0) -> Any:
    """rows: the dimension of the weight that makes outputs."""
    if isinstance(value, Channels) and value.dim != ndim - 1:
        return value  # it mixes another dimension
    made, read = module.weight.shape[rows], module.weight.shape[1 - rows]
    if (given := _known(value, ndim - 1, read)) is None:
        return NotImplemented
    couplings.add(Touch(module, "weight", 1 - rows, given, read=True))
    return _made(module, ndim - 1, made, rows, couplings)


def _batch_norm(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    if (given := _known(value, 1, module.num_features)) is None:
        return NotImplemented
    for key in ("weight", "bias", "running_mean", "running_var"):
        couplings.add(Touch(module, key, 0, given))
    return given


def _layer_norm(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    count = len(module.normalized_shape)
    if isinstance(value, Channels) and value.dim < ndim - count:
        return value
    if count > 1 or (given := _known(value, ndim - 1, module.normalized_shape[0])) is None:
        return NotImplemented
    for key in ("weight", "bias"):
        couplings.add(Touch(module, key, 0, given))
    return given


def _group_norm(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    if (given := _known(value, 1, module.num_channels)) is None:
        return NotImplemented
    if module.num_groups > 1:
        if given.one is None:
            return NotImplemented
        if module.num_groups < module.num_channels:
            given.one.divide(module.num_groups)
    for key in ("weight", "bias"):
        couplings.add(Touch(module, key, 0, given))
    return given


def _prelu(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    if module.num_parameters > 1:
        if (given := _known(value, 1, module.num_parameters)) is None:
            return NotImplemented
        couplings.add(Touch(module, "weight", 0, given))
    return value


def _same(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    return value


def _image(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    return NotImplemented if isinstance(value, Channels) and value.dim != 1 else value


def _embedding(module: Any, value: Value, ndim: int, couplings: Couplings) -> Any:
    made = Channels(ndim, (Part(Space(module.embedding_dim)),))
    couplings.add(Touch(module, "weight", 1, made))
    return made


def _attention(module: Any, inputs: list[Value], couplings: Couplings) -> Any:
    """Query, key and value along the last dimension; heads are made and used inside."""
    if len(inputs) < 3 or module.bias_k is not None:
        return NotImplemented
    last = 2
    keys = (
        ("in_proj_weight",) * 3
        if module.in_proj_weight is not None
        else ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    )
    given = [_known(value, last, getattr(module, key).shape[1]) for value, key in zip(inputs, keys, strict=False)]
    if any(one is None for one in given):
        return NotImplemented
    for key, one in zip(keys, given, strict=True):
        assert one is not None
        couplings.add(Touch(module, key, 1, one, read=True))  # one packed weight couples them
    made = _made(module.out_proj, last, module.embed_dim, 0, couplings)
    return made, None


_Rule = Callable[[Any, Value, int, Couplings], Any]
_RULES: tuple[tuple[tuple[type[nn.Module], ...], _Rule], ...] = (
    ((*_CONVOLUTIONS, *_TRANSPOSED), _convolution),
    ((nn.Linear,), _linear),
    (_BATCH_NORMS, _batch_norm),
    (_NORMS, _layer_norm),
    ((nn.GroupNorm,), _group_norm),
    ((nn.PReLU,), _prelu),
    (_POINTWISE, _same),
    (_SPATIAL, _image),
    ((nn.Embedding,), _embedding),
)

__all__ = ["couple", "is_layer", "read_layer"]
