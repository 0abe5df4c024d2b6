"""Shared by the tests of the core: a mask in plain Python loops, toy networks, one training step.

reference_mask   the definition of an N:M mask, in loops over Python numbers
weights          name -> dense parameter (copies)
seen             the weight that a layer computes with
mlp, convnet     toy networks that are the same at each call
train            optimizer steps on fixed batches
"""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nmbench.sparsity import Handle


def keep_of_line(magnitudes: list[float], n: int, m: int) -> list[bool]:
    """The n largest of each m consecutive ones; of equal ones the first stays."""
    keep = [False] * len(magnitudes)
    for start in range(0, len(magnitudes), m):
        group = range(start, min(start + m, len(magnitudes)))
        for i in sorted(group, key=lambda i: (-magnitudes[i], i))[:n]:
            keep[i] = True
    return keep


def reference_mask(weight: Tensor, n: int, m: int, axis: str = "input", dim: int = 1, groups: int = 1) -> Tensor:
    """weight: any shape and strides. Indexes element by element, so memory layout plays no part."""
    shape = tuple(weight.shape)
    mask = torch.zeros(shape, dtype=torch.bool)
    everywhere = list(itertools.product(*map(range, shape)))
    value = dict(zip(everywhere, weight.detach().double().abs().reshape(-1).tolist(), strict=True))
    if axis == "kernel":
        lines: Iterable[list[tuple[int, ...]]] = [everywhere]
    else:
        part = shape[dim] // groups if groups else 0
        others = itertools.product(*(range(s) for d, s in enumerate(shape) if d != dim))
        lines = [
            [(*rest[:dim], g * part + i, *rest[dim:]) for i in range(part)] for rest in others for g in range(groups)
        ]
    for line in lines:
        for index, kept in zip(line, keep_of_line([value[i] for i in line], n, m), strict=True):
            mask[index] = kept
    return mask


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def seen(layer: nn.Module) -> Tensor:
    """What the layer multiplies with."""
    shape = (1, layer.in_features) if isinstance(layer, nn.Linear) else (1, layer.in_channels, 5, 5)  # type: ignore[arg-type]
    with Reader() as reader:
        layer(torch.zeros(shape, dtype=layer.weight.dtype))  # type: ignore[arg-type]
    return reader.weights[0]


class Reader(TorchFunctionMode):
    """Keeps the second argument of each linear layer and convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.__name__ in ("linear", "conv2d", "conv_transpose2d"):
            self.weights.append(args[1])
        return func(*args, **(kwargs or {}))


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))


def convnet(seed: int = 0) -> nn.Sequential:
    """3 input channels stay dense under M = 4; 8 and 6 channels are grouped, the latter with a short group."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False), nn.Flatten(), nn.Linear(6 * 4 * 4, 5)
    )


def sgd(model: nn.Module, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.01) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)


def batch(step: int, shape: tuple[int, ...] = (16, 8), out: int = 4) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1000 + step)
    return torch.randn(shape, generator=made), torch.randn((shape[0], out), generator=made)


def loss_of(model: nn.Module, step: int, shape: tuple[int, ...] = (16, 8), out: int = 4) -> Tensor:
    x, y = batch(step, shape, out)
    return nn.functional.mse_loss(model(x), y)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterable[int], **shape: object) -> None:
    """The plain loop; whatever the sparse core does, it does through the optimizer's hooks."""
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step, **shape).backward()  # type: ignore[arg-type]
        optimizer.step()


def masked(handle: Handle, name: str, model: nn.Module | None = None) -> Tensor:
    """The dense weight (of the handle's model, or another) times a mask made afresh by the plain-Python reference."""
    info = next(i for i in handle.layers if i.name == name)
    parameter = dict((model or handle._model).named_parameters())[name].detach()
    p = handle.pattern
    mask = reference_mask(parameter, p.n, p.m, p.axis, info.grouping.dim, info.grouping.groups)
    return torch.where(mask, parameter, torch.zeros((), dtype=parameter.dtype))


assert keep_of_line([1.0, 1.0, 2.0, 1.0, 5.0], 2, 4) == [True, False, True, False, True]
