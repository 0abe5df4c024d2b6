"""Which numbers really multiply: the operands of every product in a forward pass, traced back to the weights."""

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nmbench.sparsity.memory import is_plain, numberless

#: by how much the density of an operand may lie above that of its weight
SLACK = 0.01
#: where the operands stand among an operation's arguments
_OPERANDS = {
    **dict.fromkeys(("convolution", "_convolution"), (1,)),
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "linear", "_grouped_mm"), (1, 0)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv", "addbmm"), (2, 1)),
}
_STOCK = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def operands(func: Any, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The weights' side first; of a convolution its weight only; nothing if `func` is no product of matrices."""
    return tuple(args[i] for i in _OPERANDS.get(func.overloadpacket.__name__, ()))


def _density(tensor: Tensor) -> float:
    return int(torch.count_nonzero(tensor)) / max(1, tensor.numel())


class WeightWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`densities`: name -> the largest density that a weight, or what was computed from it, had in a product.

    Operations of other libraries (deformable convolution) count as products of what they are given.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.densities: dict[str, float] = {}
        self._names: dict[int, set[str]] = defaultdict(set)
        self._alive: list[Tensor] = []  # or an address would come to stand for another tensor
        for name, weight in weights.items():
            self._names[self._address(weight)].add(name)

    def _address(self, tensor: Tensor) -> int:
        return tensor.untyped_storage().data_ptr()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        derived = [t for t in inputs if self._address(t) in self._names]
        if not derived:
            return out
        factors = operands(func, args) if func.namespace == "aten" else tuple(derived)
        for factor in factors:
            for name in self._names.get(self._address(factor), ()):
                self.densities[name] = max(self.densities.get(name, 0.0), _density(factor))
        if not factors and func.overloadpacket.__name__ != "embedding":
            self._follow(derived, [t for t in tree_leaves(out) if isinstance(t, Tensor)])
        return out

    def _follow(self, derived: list[Tensor], results: list[Tensor]) -> None:
        """A result is computed from a weight unless it is smaller: a mean, a norm."""
        for result in results:
            for source in derived:
                if result.numel() >= source.numel():
                    self._names[self._address(result)] |= self._names[self._address(source)]
                    self._alive.append(result)


@contextlib.contextmanager
def ordinary_forward(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, each product an operation of its own; afterwards the model is as it was."""
    training = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in training.items():
            if module.training is not mode:
                module.train(mode)  # not the flag alone: some merge weights in eval() and take them apart in train()


def _has_a_forward_of_its_own(module: nn.Module) -> bool:
    stock = next((cls for cls in _STOCK if isinstance(module, cls)), None)
    names = ("forward", "_conv_forward")
    return stock is not None and any(getattr(type(module), n, None) is not getattr(stock, n, None) for n in names)


def _example(module: nn.Module, weight: Tensor) -> Tensor:
    """The smallest input of a linear layer or convolution."""
    if isinstance(module, nn.Linear):
        return weight.new_ones((2, module.in_features))
    layer: Any = module
    extent = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return weight.new_ones((2, layer.in_channels, *extent))


@torch.no_grad()
def undone_by_its_forward(module: nn.Module, key: str) -> bool:
    """Does the layer multiply with a dense weight though half of `module.key` is zero? Tried out on a copy.

    False where that cannot be tried: a forward that wants other arguments, a weight without numbers.
    """
    weight = module._parameters.get(key)
    if key != "weight" or weight is None or not is_plain(weight) or numberless(weight):
        return False
    if not _has_a_forward_of_its_own(module):
        return False
    devices = [weight.device] if weight.is_cuda else []
    try:
        with torch.random.fork_rng(devices=devices):
            layer = copy.deepcopy(module)
            halved = layer._parameters[key]
            assert halved is not None
            halved.view(-1)[::2] = 0
            for other in layer.parameters():
                if other is not halved and not other.any():
                    other.fill_(1)  # a gain that begins at zero would hide the weight
            inputs = _example(layer, halved)
            return any(_multiplies_dense(layer.train(mode), halved, inputs) for mode in (True, False))
    except Exception:  # whatever a stranger's forward raises
        return False


def _multiplies_dense(layer: nn.Module, weight: Tensor, inputs: Tensor) -> bool:
    with WeightWatch({"weight": weight}) as watch:
        type(layer).forward(layer, inputs)
    return bool(watch.densities.get("weight", 0.0) > _density(weight) + SLACK)
