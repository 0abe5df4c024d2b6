"""`sparsify` and its `Handle`: an N:M pattern on a model while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nmbench.sparsity import methods
from nmbench.sparsity.attach import attach, detach, is_attached
from nmbench.sparsity.flips import SAD
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.pattern import NMPattern, PatternLike
from nmbench.sparsity.select import LayerInfo, Layers, Weight, choose, find_weights
from nmbench.sparsity.weight import DENSE, HOLD, Scope, SparseWeight, renew

__all__ = ["Handle", "sparsify"]


class Handle:
    """What `sparsify` gives back: the method's part in each optimizer step, the counters, and the way out.

    Attributes:
        pattern, method: what was asked for. layers: every candidate weight, sparse or dense, and why (LayerInfo).
        sad: flips and snapshots (see SAD). phase: training pass. steps: optimizer steps done, over all phases.
    """

    def __init__(self, model: nn.Module, pattern: NMPattern, method: Method, weights: list[Weight], layers: Layers):
        self.pattern = pattern
        self.method = method
        self.layers: list[LayerInfo] = choose(weights, pattern, layers)
        self.phase = 0
        self.steps = 0
        self._phase_steps = 0
        self._model = model
        self._scope = Scope()
        self._finalized = False
        self._applied: set[str] = set()
        self._hooks: list[Any] = []
        by_name = {w.name: w for w in weights}
        self._weights: list[SparseWeight] = []
        uses: list[tuple[nn.Module, str, SparseWeight]] = []
        for info in self.layers:
            if not info.sparse:
                continue
            (module, key), *_ = by_name[info.name].uses
            sparse = SparseWeight(info.name, module, key, pattern, info.grouping, self._scope)
            self._weights.append(sparse)
            uses += [(module, key, sparse) for module, key in by_name[info.name].uses]
        self.sad = SAD([w.name for w in self._weights], [w.parameter.numel() for w in self._weights])
        renew(self._weights)
        attach(model, uses, self._scope)
        self._rule = ""
        self._set_rule()
        self.snapshot()

    # -- schedule -----------------------------------------------------------------------------------------------
    def _set_rule(self) -> None:
        rule = self.method.rule(self.phase, self._phase_steps)
        if rule == self._rule:
            return
        for weight in self._weights:
            if rule == HOLD and self._rule != HOLD:
                weight.refresh()  # unconditionally: a change through .data is not known here
                weight.bake()
            weight.rule = rule
            weight.drop_cache()
        self._rule = rule

    def start_phase(self, phase: int) -> None:
        """Begin training pass `phase` (ASP prunes when its second pass begins)."""
        self.phase, self._phase_steps = phase, 0
        self._applied.clear()
        self._set_rule()

    def adopt(self, steps: int) -> None:
        """Count `steps` optimizer steps of this phase that were done elsewhere; load the weights that they gave first.

        No flips are known of them: `sad.uncounted` says how many steps are so.
        """
        self._require_live()
        self.steps += steps
        self._phase_steps += steps
        self.sad.skip(steps)
        self.refresh()
        self._set_rule()
        self.snapshot()

    def forget(self) -> None:
        """What flipped in this phase is not to count, just as in a phase that was adopted."""
        self.snapshot()
        self.sad.forget()

    # -- the optimizer step -------------------------------------------------------------------------------------
    def bind(self, optimizer: Optimizer) -> None:
        """Let the optimizer's own `step()` call `before_step` first and `step` after it.

        Hooks of an earlier bind are removed, so that a second training pass can bring a new optimizer.
        """
        self._require_live()
        self.unbind()
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"bind() needs a torch.optim.Optimizer, not {type(optimizer).__name__}")
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        if closure is None:
            return self.before_step(optimizer)

        def with_term() -> Any:
            loss = closure()  # the gradients are made in here, so the term comes after it, at each evaluation
            self._applied.clear()
            self.before_step(optimizer)
            return loss

        return (optimizer, with_term), {k: v for k, v in kwargs.items() if k != "closure"}

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found_inf = getattr(optimizer, "found_inf", None)  # set by GradScaler while a fused optimizer steps
        if found_inf is not None and bool(found_inf):
            self._applied.clear()  # the kernel skipped the update: no step was done
        else:
            self.step()

    def unbind(self) -> None:
        """Take the hooks off the optimizer again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer | None = None) -> None:
        """Add the method's gradient term, once, to gradients that are accumulated, averaged, unscaled and clipped.

        With `optimizer`, only its parameters. A parameter without a gradient is left alone, as torch's
        optimizers do. Raises RuntimeError if the term was added already for this step.
        """
        self._require_live()
        if self._rule == DENSE:
            return
        mine = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        # a fused optimizer unscales inside its kernel, so the term must be in the scaled units
        scale = getattr(optimizer, "grad_scale", None)
        changed: list[tuple[Tensor, Tensor, Tensor]] = []
        for weight in self._weights:
            parameter = weight.parameter
            grad = parameter.grad
            if grad is None or not parameter.requires_grad or (mine is not None and id(parameter) not in mine):
                continue
            if weight.name in self._applied:
                raise RuntimeError(
                    f"before_step() ran twice for one optimizer step ({weight.name}): "
                    "either bind(optimizer) or call before_step() and step() by hand, not both"
                )
            self._applied.add(weight.name)
            weight.ensure_current()
            changed.append((grad, parameter.detach(), weight.mask))
        grads, parameters, masks = ([three[i] for three in changed] for i in range(3))
        if scale is not None:
            for grad in grads:
                grad.div_(scale)
        self.method.gradients(grads, parameters, masks)
        if scale is not None:
            for grad in grads:
                grad.mul_(scale)

    @torch.no_grad()
    def step(self) -> None:
        """After the optimizer's update: renew the masks, count flips, follow the schedule."""
        self._require_live()
        self._applied.clear()
        self._scope.depth = 0  # no forward pass is going on: one that a KeyboardInterrupt cut off never left
        self.steps += 1
        self._phase_steps += 1
        if self._rule == HOLD:
            for weight in self._weights:
                weight.bake()  # momentum and weight averaging may have moved a pruned weight off zero
            self.sad.append([0] * len(self._weights))
        else:
            self.sad.append(renew(self._weights))
        self._set_rule()

    def refresh(self) -> None:
        """Renew the masks after weights were changed from outside (an EMA swap, a manual edit). Counts no flips.

        A mask that the method holds (one-shot, asp) stays.
        """
        self._require_live()
        self._renew()

    def _renew(self) -> None:
        renew([weight for weight in self._weights if weight.rule != HOLD])

    # -- counters -----------------------------------------------------------------------------------------------
    def snapshot(self) -> None:
        """Keep the current masks for `sad.between`, under the number of steps done."""
        self._renew()
        self.sad.take_snapshot(self.steps, [weight.mask for weight in self._weights])

    @property
    def masks(self) -> dict[str, Tensor]:
        """Name -> current mask (bool). Not copies: do not change them."""
        return {weight.name: weight.mask for weight in self._weights}

    @property
    def mask_updates(self) -> dict[str, int]:
        """Name -> how often the mask was computed."""
        return {weight.name: weight.computed for weight in self._weights}

    # -- resume -------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Schedule, phase, counters and, where the method holds them, masks. Tensors and plain values only."""
        return {
            "version": 1,
            "pattern": str(self.pattern),
            "method": self.method.name,
            "hyper": dict(self.method.hyper),
            "phase": self.phase,
            "steps": self.steps,
            "phase_steps": self._phase_steps,
            "names": [w.name for w in self._weights],
            "sad": self.sad.state_dict(),
            "masks": [w.mask.clone() for w in self._weights] if self._rule == HOLD else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; load the model's weights first.

        Raises ValueError if the state belongs to another pattern, method, setting or model.
        """
        self._require_live()
        names = [w.name for w in self._weights]
        mine = {"pattern": str(self.pattern), "method": self.method.name, "hyper": self.method.hyper, "names": names}
        for key, value in mine.items():
            if state[key] != value:
                raise ValueError(f"the saved state is of another {key}: {state[key]!r}, not {value!r}")
        self.phase, self.steps = int(state["phase"]), int(state["steps"])
        self._phase_steps = int(state["phase_steps"])
        self.sad.load_state_dict(state["sad"])
        self._set_rule()
        for weight, mask in zip(self._weights, state["masks"], strict=False):
            weight.mask.copy_(mask)
            weight.drop_cache()
        self.refresh()

    # -- the end ------------------------------------------------------------------------------------------------
    def finalize(self) -> None:
        """Bake the masks into plain weights; the model is an ordinary nn.Module again. The counters stay readable.

        A method that leaves a dense network (dense) only lets go of the model. Calling it twice does nothing.
        """
        if self._finalized:
            return
        if self.method.sparse:
            for weight in self._weights:
                weight.refresh()
                weight.bake()
        self.unbind()
        detach(self._model)
        self._finalized = True

    def _require_live(self) -> None:
        if self._finalized:
            raise RuntimeError("this handle was finalised: the model is an ordinary nn.Module now")


def sparsify(
    model: nn.Module, pattern: PatternLike, method: str = "sr-ste", layers: Layers = None, **hyper: Any
) -> Handle:
    """Put an N:M pattern on `model`, in place, for training by `method`.

    From then on `layer.weight` is the masked weight, made anew for each forward pass. To change a weight by hand go
    through the parameter (`model.named_parameters()`, `load_state_dict`), then call `handle.refresh()`.

    Args:
        model: an unmodified model, initialised (or with pretrained weights) already.
        pattern: an NMPattern or its text, for instance "2:4" or "1:16@kernel".
        method: "dense", "one-shot", "asp", "ste", "sr-ste" or any other installed in `nmbench.methods`.
        layers: which candidates become sparse. None: every convolution and linear weight. An iterable of module or
            parameter names, `*` allowed; or a callable (module name, module) -> bool.
        hyper: the method's own settings, for instance lambda_w=2e-4 for sr-ste.

    Returns:
        A Handle. `handle.layers` says what became sparse and why the rest did not.

    Raises:
        ValueError: bad pattern, unknown method, setting or layer name; the model is sparse already or lazy.
        NonFiniteWeightError (a ValueError): a weight is NaN or infinite.
    """
    parsed = NMPattern.parse(pattern)
    chosen = methods.load(method)(**hyper)
    if is_attached(model):
        raise ValueError("this model is sparse already: finalize() its handle before another sparsify()")
    return Handle(model, parsed, chosen, find_weights(model), layers)
