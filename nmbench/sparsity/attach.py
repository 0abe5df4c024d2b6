"""Attaching to a model without touching its parameters: a subclass made on the fly with a property over the weight.

`named_parameters()`, their order, the state-dict keys, pickling and deepcopy stay as they were, since the parameter
remains in `_parameters`. Outside a forward pass `layer.weight` is that parameter, so whatever reads, writes, groups or
initialises weights works as torch's documentation says; inside a forward pass it is the masked weight.
(torch.nn.utils.parametrize renames keys, reorders parameters and cannot be pickled.)
"""

import functools
import sys
from typing import Any

import torch
from torch import nn

from nmbench.sparsity.kept_mask import HOLD, KeptMask
from nmbench.sparsity.scope import Scope, traced_by_fx
from nmbench.sparsity.weight import SparseWeight

_SLOT = "_nm_weights"
#: marks a part of the model that has sparse weights further down
_PART = "_nm_part"
_FINALIZE = "this model is being made sparse: call handle.finalize() first"


def _value(module: nn.Module, key: str) -> Any:
    """What `module.key` is without this core: its parameter, or what torch's prune and its like computed from it."""
    for place in (module.__dict__["_parameters"], module.__dict__):
        if key in place:
            return place[key]
    raise AttributeError(f"{type(module).__name__!r} object has no attribute {key!r}")


def _computes(module: nn.Module) -> bool:
    """Is the weight read in a forward pass that began below the model: of its module, or of a part around that?

    Told by the frames, since hooks on every part would cost each pass of the model; so too where torch.utils.checkpoint
    runs a piece of a forward pass again.
    """
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        if frame.f_code.co_name == "forward":
            part = frame.f_locals.get("self")
            if part is module:
                return True
            if isinstance(part, nn.Module) and _PART in part.__dict__ and any(m is module for m in part.modules()):
                return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _reads_in_forward(module: nn.Module) -> bool:
    """Is it a layer of torch's, which reads its weight in `forward` itself? A hook on each would cost time."""
    return type(module).__module__.startswith("torch.nn.modules.") and not any(True for _ in module.children())


def _property(key: str) -> property:
    def get(self: nn.Module) -> Any:  # runs in each layer of each pass, hence in one piece
        attributes = self.__dict__
        weight = attributes[_SLOT].get(key)
        value = attributes["_parameters"].get(key)
        if value is None:
            value = _value(self, key)
        if value is None or weight is None:
            return value
        scope = weight.scope
        outside = scope.depth == 0
        if outside and not (torch.compiler.is_compiling() or _computes(self)):
            return value
        if (outside or scope.traced) and traced_by_fx():
            raise RuntimeError(f"torch.fx would freeze the masked {key!r} into its graph: {_FINALIZE}")
        try:
            return weight.forward(value)
        except AttributeError as error:
            # nn.Module.__getattr__ would answer an AttributeError with the dense parameter
            raise RuntimeError(f"the sparse weight {key!r} failed: {error}") from error

    def set_(self: nn.Module, value: Any) -> None:  # nn.Module keeps parameters itself
        self.__dict__[key] = value

    def delete(self: nn.Module) -> None:
        if key not in self.__dict__:
            raise AttributeError(key)
        del self.__dict__[key]

    return property(get, set_, delete)


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

    def _replicate_for_data_parallel(self: nn.Module) -> nn.Module:
        raise RuntimeError("nn.DataParallel copies a model without its masks: use DistributedDataParallel or one GPU")

    def __prepare_scriptable__(self: nn.Module) -> nn.Module:
        raise RuntimeError(f"torch.jit.script would compile the dense weights: {_FINALIZE}")

    body: dict[str, Any] = {key: _property(key) for key in keys}
    body |= {"train": train, "__reduce_ex__": __reduce_ex__, "__module__": base.__module__, "__doc__": base.__doc__}
    body |= {"_replicate_for_data_parallel": _replicate_for_data_parallel}
    body |= {"__prepare_scriptable__": __prepare_scriptable__, "__qualname__": base.__qualname__, "_nm_base": base}
    return type(base.__name__, (base,), body)


def _class_without(cls: type) -> type:
    """`cls` as it would be without this core, also where another library made a class of its own on top of ours."""
    if "_nm_base" in cls.__dict__:
        return _class_without(cls._nm_base)  # type: ignore[attr-defined]
    bases = tuple(_class_without(base) for base in cls.__bases__)
    if bases == cls.__bases__:
        return cls
    return type(cls.__name__, bases, {k: v for k, v in cls.__dict__.items() if k not in ("__dict__", "__weakref__")})


def _after_load(module: nn.Module, incompatible: Any) -> None:
    """Load hook: the weights are others now, so their masks are too, held ones included."""
    for weight in module.__dict__.get(_SLOT, {}).values():
        weight.update()
        if weight.rule == HOLD:
            weight.bake()


def _route(module: nn.Module, weights: dict[str, SparseWeight]) -> None:
    """Let `weights` stand before the parameters of these names."""
    before = module.__dict__.get(_SLOT)
    if before is None:
        module.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
    module.__dict__[_SLOT] = slot = {**(before or {}), **weights}
    own = type(module).__dict__.get("_nm_base")
    base, keys = (type(module), tuple(weights)) if own is None else (own, tuple(slot))
    module.__class__ = _sparse_class(base, keys)  # type: ignore[arg-type] # as above


def parameter_home(module: nn.Module, key: str) -> tuple[nn.Module, str] | None:
    """Where the parameter that is, or once was, `module.key` is now; None if it is gone.

    torch.nn.utils.prune and spectral_norm keep it as key_orig, weight_norm as key_v, parametrize in a list.
    """
    lists = getattr(module, "parametrizations", {})
    places = [(module, key), (module, f"{key}_orig"), (module, f"{key}_v")]
    if key in lists:
        places += [(lists[key], "original"), (lists[key], "original1")]
    return next(((home, name) for home, name in places if home._parameters.get(name) is not None), None)


def _move(weight: KeptMask) -> None:
    """Route the weight through its parameter's new place. Raises RuntimeError if there is none."""
    module, key = weight.attached_as
    home = parameter_home(module, key)
    if home is None:
        raise RuntimeError(
            f"{weight.name} is no parameter any more (FSDP 1 and quantizers replace it): use "
            "torch.distributed.fsdp.fully_shard, or call handle.finalize() first"
        )
    assert isinstance(weight, SparseWeight)
    weight.module.__dict__[_SLOT].pop(weight.key, None)
    weight.module, weight.key = home
    _route(weight.module, {weight.key: weight})


def attach(model: nn.Module, uses: list[tuple[nn.Module, str, SparseWeight]], scope: Scope) -> None:
    """Route each (module, parameter name) through its SparseWeight, and let `scope` see forward passes.

    Not of the model alone: a part of it (an encoder, one layer) may be called by itself.
    """
    by_module: dict[int, tuple[nn.Module, dict[str, SparseWeight]]] = {}
    for module, key, weight in uses:
        by_module.setdefault(id(module), (module, {}))[1][key] = weight
        weight.move = _move
    for module, weights in by_module.values():
        _route(module, weights)
        scope.weights += [weight for weight in weights.values() if weight not in scope.weights]
    for part in model.modules():
        if is_attached(part):
            part.__dict__[_PART] = True
        if part is model or (_SLOT in part.__dict__ and not _reads_in_forward(part)):
            enter = scope.enter_model if part is model else scope.enter_part
            # after the hooks of FSDP, which read parameters, but before those that compute a weight from one
            computed = any(key.endswith(("_orig", "_v")) for key in part.__dict__.get(_SLOT, ()))
            part.register_forward_pre_hook(enter, prepend=computed)
            part.register_forward_hook(scope.leave, always_call=True)


def _unhook(module: nn.Module) -> None:
    for hooks in (module._forward_pre_hooks, module._forward_hooks, module._load_state_dict_post_hooks):
        for number, hook in list(hooks.items()):
            if hook is _after_load or isinstance(getattr(hook, "__self__", None), Scope):
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)


def detach(model: nn.Module) -> None:
    """Undo `attach` on `model` (or on a copy of it): every module has its own class again."""
    for module in model.modules():
        _unhook(module)
        module.__dict__.pop(_PART, None)
        if module.__dict__.pop(_SLOT, None) is not None:
            module.__class__ = _class_without(type(module))


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


def learnables(model: nn.Module) -> list[str]:
    """Names of the tensors that a method put beside the weights of `model`."""
    own = {id(parameter) for weight in weights_of(model) for parameter in weight.extra.values()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in own]
