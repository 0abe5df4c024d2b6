"""The `Handle` of a model that is being made sparse: schedule, optimizer steps, counters, the way out."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nmbench.sparsity.attach import attach, detach
from nmbench.sparsity.binding import Binding
from nmbench.sparsity.flips import SAD
from nmbench.sparsity.kept_mask import DENSE, HOLD, renew
from nmbench.sparsity.memory import local_part
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.scope import Scope
from nmbench.sparsity.select import LayerInfo, Layers, Weight, choose
from nmbench.sparsity.weight import SparseWeight


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
        self._binding = Binding(self)
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
        self.sad = SAD([w.name for w in self._weights], [w.mask.numel() for w in self._weights])
        self._rule = ""
        try:
            renew(self._weights)
            attach(model, uses, self._scope)
            self._set_rule()
            self.snapshot()
        except BaseException:
            detach(model)
            raise

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
    def bind(self, *optimizers: Any) -> None:
        """Let the `step()` of one or several optimizers call `before_step` first, and `step` after all of them.

        optimizers: torch optimizers, or wrappers of them (Accelerate, SAM, Lookahead). An optimizer that was bound
        before is let go of if a new one holds any of its parameters, so that a second training pass can bring its own;
        others stay. Warns of sparse weights that no bound optimizer holds. Raises TypeError if it is no optimizer.
        """
        self._require_live()
        self._binding.add(optimizers)
        missing = [w.name for w in self._weights if w.parameter.requires_grad and not self._binding.covers(w.parameter)]
        if missing:
            names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            warnings.warn(f"bind(): no bound optimizer holds these sparse weights: {names}", stacklevel=2)

    def unbind(self) -> None:
        """Take the hooks off the optimizers again."""
        self._binding.clear()

    def forget_terms(self) -> None:
        """The gradients are made anew, or the update was skipped: the term may be added again."""
        self._applied.clear()

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
            values = weight.ensure_current().detach()
            changed.append((local_part(grad, weight.grouping, self.pattern), values, weight.mask))
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
        Warns where the method took no part in training.
        """
        if self._finalized:
            return
        self._warn_of_what_is_missing()
        if self.method.sparse:
            for weight in self._weights:
                weight.refresh()
                weight.bake()
        self.unbind()
        detach(self._model)
        self._finalized = True

    def _warn_of_what_is_missing(self) -> None:
        if self.steps == 0 and any(weight.untold for weight in self._weights):
            warnings.warn(
                f"finalize(): weights were trained and no step was counted, so {self.method.name} took no part in it: "
                "bind() the optimizer whose step() is called, or call before_step() and step()",
                stacklevel=3,
            )
        elif self.steps and self.method.sparse and self._rule == DENSE:
            warnings.warn(
                f"finalize(): training was dense so far and nothing is trained after pruning: {self.method.name} has "
                f"{self.method.phases} training pass(es), and this is number {self.phase + 1}, after "
                f"{self._phase_steps} steps; start_phase() begins the next",
                stacklevel=3,
            )

    def _require_live(self) -> None:
        if self._finalized:
            raise RuntimeError("this handle was finalised: the model is an ordinary nn.Module now")
