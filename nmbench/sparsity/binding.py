"""Which optimizers a handle is bound to, and when they have done a step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    from nmbench.sparsity.handle import Handle


def _parameters(optimizer: Any) -> dict[int, Tensor]:
    return {id(p): p for group in optimizer.param_groups for p in group["params"]}


def _held(wrapper: Any) -> list[Any]:
    """What looks like an optimizer among the attributes of `wrapper`, or in a list or dict among them."""
    attributes = {name: value for name, value in getattr(wrapper, "__dict__", {}).items() if name != "state"}
    values: list[Any] = []
    for value in attributes.values():
        values += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return [v for v in values if v is not wrapper and hasattr(v, "param_groups") and callable(getattr(v, "step", None))]


def innermost(optimizer: Any) -> list[Optimizer]:
    """The torch optimizers whose own `step()` moves the weights.

    A wrapper that moves other weights besides (ZeRO, which sends them to other ranks) is taken for what it holds.
    Raises TypeError if there is no torch optimizer.
    """
    inner = [one for held in _held(optimizer) for one in innermost(held)]
    hooked = isinstance(optimizer, Optimizer) and hasattr(optimizer, "_optimizer_step_pre_hooks")
    if not hooked:
        if not inner:
            raise TypeError(f"bind() needs a torch.optim.Optimizer, not {type(optimizer).__name__}")
        return inner
    covered = {key for one in inner for key in _parameters(one)}
    own = _parameters(optimizer).keys()
    if own <= covered:
        return inner or [optimizer]
    return [optimizer] if own & covered else [optimizer, *inner]


class Binding:
    """The bound optimizers of one handle. A step is counted once all of them updated, or one begins its next update."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._hooks: dict[Optimizer, list[Any]] = {}
        self._stepped: set[Optimizer] = set()

    def add(self, optimizers: Iterable[Any]) -> None:
        """Hook into `optimizers`; earlier ones that hold any of the same parameters are let go of.

        Raises TypeError for what is and holds no torch optimizer.
        """
        fresh = [one for optimizer in optimizers for one in innermost(optimizer)]
        taken = {key for one in fresh for key in _parameters(one)}
        for old in [one for one in self._hooks if one in fresh or _parameters(one).keys() & taken]:
            self._remove(old)
        for one in dict.fromkeys(fresh):
            hooks = [one.register_step_pre_hook(self._before), one.register_step_post_hook(self._after)]
            self._hooks[one] = hooks
        self._stepped.clear()

    def covers(self, parameter: Tensor) -> bool:
        """Is the parameter in a group of a bound optimizer?"""
        return any(id(parameter) in _parameters(one) for one in self._hooks)

    def clear(self) -> None:
        """Take all hooks off again."""
        for one in list(self._hooks):
            self._remove(one)

    def _remove(self, optimizer: Optimizer) -> None:
        for hook in self._hooks.pop(optimizer):
            hook.remove()
        self._stepped.discard(optimizer)

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if optimizer in self._stepped:  # the others had nothing to do in the step that it ended
            self._count()
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        if closure is None:
            return self._handle.before_step(optimizer)

        def with_term() -> Any:
            loss = closure()  # the gradients are made in here, so the term comes after it, at each evaluation
            self._handle.forget_terms()
            self._handle.before_step(optimizer)
            return loss

        return (optimizer, with_term), {k: v for k, v in kwargs.items() if k != "closure"}

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        skipped = getattr(optimizer, "found_inf", None)  # set by GradScaler while a fused optimizer steps
        if skipped is not None and bool(cast(Any, skipped)):
            self._handle.forget_terms()  # the kernel skipped the update: no step was done
            return
        self._stepped.add(optimizer)
        if len(self._stepped) == len(self._hooks):
            self._count()

    def _count(self) -> None:
        self._stepped.clear()
        self._handle.step()
