"""Attaching to a model without touching its parameters: a subclass made on the fly with a property over the weight.

`named_parameters()`, their order, the state-dict keys, pickling and deepcopy stay as they were, since the parameter
remains in `_parameters`; only attribute access (`self.weight` in forward) gives the masked weight.
(torch.nn.utils.parametrize renames keys, reorders parameters and cannot be pickled.)
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from nmbench.sparsity.weight import HOLD, Scope, SparseWeight

__all__ = ["attach", "detach", "is_attached", "weights_of"]

_SLOT = "_nm_weights"
_HOOKS = "_nm_hooks"
_LOAD_HOOK = "_nm_load_hook"


def _property(key: str) -> property:
    def get(self: nn.Module) -> Any:
        try:
            return self.__dict__[_SLOT][key].forward()
        except AttributeError as error:
            # nn.Module.__getattr__ would answer an AttributeError with the dense parameter
            raise RuntimeError(f"the sparse weight {key!r} failed: {error}") from error

    return property(get)


def _rebuild(base: type[nn.Module], keys: tuple[str, ...]) -> nn.Module:
    cls = _sparse_class(base, keys)  # type: ignore[arg-type] # mypy: a metaclass' __hash__
    return cls.__new__(cls)


@functools.cache
def _sparse_class(base: type[nn.Module], keys: tuple[str, ...]) -> type[nn.Module]:
    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        for weight in self.__dict__[_SLOT].values():
            weight.invalidate()
        return base.train(self, mode)

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        return _rebuild, (base, keys), self.__dict__.copy()

    body: dict[str, Any] = {key: _property(key) for key in keys}
    body |= {"train": train, "__reduce_ex__": __reduce_ex__, "__module__": base.__module__, "__doc__": base.__doc__}
    body["__qualname__"] = base.__qualname__
    body["_nm_base"] = base
    return type(base.__name__, (base,), body)


def _after_load(module: nn.Module, incompatible: Any) -> None:
    """Load hook: the weights are others now, so their masks are too, held ones included."""
    for weight in module.__dict__.get(_SLOT, {}).values():
        weight.update()
        if weight.rule == HOLD:
            weight.bake()


def attach(model: nn.Module, uses: list[tuple[nn.Module, str, SparseWeight]], scope: Scope) -> None:
    """Route each (module, parameter name) through its SparseWeight, and let `scope` see the model's forward passes."""
    by_module: dict[int, tuple[nn.Module, dict[str, SparseWeight]]] = {}
    for module, key, weight in uses:
        by_module.setdefault(id(module), (module, {}))[1][key] = weight
    for module, weights in by_module.values():
        module.__dict__[_SLOT] = weights
        module.__class__ = _sparse_class(type(module), tuple(weights))  # type: ignore[arg-type] # as above
        hook = module.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
        module.__dict__[_LOAD_HOOK] = hook.id
        scope.weights += [weight for weight in weights.values() if weight not in scope.weights]
    handles = (
        model.register_forward_pre_hook(scope.enter),
        model.register_forward_hook(scope.leave, always_call=True),
    )
    model.__dict__[_HOOKS] = tuple(handle.id for handle in handles)


def detach(model: nn.Module) -> None:
    """Undo `attach` on `model` (or on a copy of it): every module has its own class again."""
    for module in model.modules():
        if _SLOT in module.__dict__:
            del module.__dict__[_SLOT]
            module._load_state_dict_post_hooks.pop(module.__dict__.pop(_LOAD_HOOK), None)
            module.__class__ = type(module)._nm_base  # type: ignore[attr-defined]
    before, after = model.__dict__.pop(_HOOKS, (None, None))
    model._forward_pre_hooks.pop(before, None)
    model._forward_hooks.pop(after, None)
    model._forward_hooks_always_called.pop(after, None)


def is_attached(model: nn.Module) -> bool:
    """Is any module of `model` sparse by this core right now?"""
    return any(_SLOT in module.__dict__ for module in model.modules())


def weights_of(model: nn.Module) -> list[SparseWeight]:
    """The sparse weights that are attached to `model`, each once."""
    found: dict[int, SparseWeight] = {}
    for module in model.modules():
        for weight in module.__dict__.get(_SLOT, {}).values():
            found.setdefault(id(weight), weight)
    return list(found.values())
