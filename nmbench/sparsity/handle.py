"""The `Handle` of a model that is being made sparse: schedule, optimizer steps, counters, the way out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nmbench.sparsity.allocation import Patterns
from nmbench.sparsity.attach import attach, detach
from nmbench.sparsity.binding import Binding
from nmbench.sparsity.ending import settle, warn_of_dense_end, warn_of_no_step
from nmbench.sparsity.flips import SAD
from nmbench.sparsity.kept_mask import DENSE, HOLD, KEEP, STAYS, renew
from nmbench.sparsity.methods.base import Method, overrides
from nmbench.sparsity.pattern import stretch
from nmbench.sparsity.resume import copied
from nmbench.sparsity.scope import Scope
from nmbench.sparsity.select import LayerInfo, Layers, Weight, choose
from nmbench.sparsity.updates import Updates
from nmbench.sparsity.weight import SparseWeight


class Handle:
    """What `sparsify` gives back: the method's part in each optimizer step, the counters, and the way out.

    Attributes:
        pattern, method: what was asked for. layers: every candidate weight, sparse or dense, and why (LayerInfo).
        sad: flips and snapshots (see SAD). phase: training pass. steps: optimizer steps done, over all phases.
    """

    def __init__(self, model: nn.Module, pattern: Patterns, method: Method, weights: list[Weight], layers: Layers):
        self.pattern = pattern
        self.method = method
        self.layers: list[LayerInfo] = choose(weights, pattern, layers)
        self.phase = self.steps = self._phase_steps = 0
        self._model = model
        self._scope = Scope()
        self._finalized = False
        self._own = overrides(method)
        self._binding = Binding(self)
        by_name = {w.name: w for w in weights}
        self._weights: list[SparseWeight] = []
        uses: list[tuple[nn.Module, str, SparseWeight]] = []
        for place, info in enumerate(self.layers):
            if not info.sparse:
                continue
            (module, key), *_ = by_name[info.name].uses
            sparse = SparseWeight(info.name, module, key, info.own(pattern), info.grouping, self._scope)
            sparse.uses = by_name[info.name].uses
            if sparse.prunes:
                sparse.serve(method)
                outputs = sparse.outputs if method.transposable else None
                self.layers[place] = replace(info, outputs=outputs, shared=method.shared(sparse))
            self._weights.append(sparse)
            uses += [(module, key, sparse) for module, key in by_name[info.name].uses]
        self._updates = Updates(method, self._served() if "before" in self._own else self._weights)
        self.sad = SAD([w.name for w in self._weights], [w.mask.numel() for w in self._weights])
        self._rule = ""
        try:
            for sparse in self._served():
                sparse.register(method.extra(sparse))
            self._set_patterns()
            renew(self._weights)
            attach(model, uses, self._scope)
            self._set_rule()
            self.snapshot()
        except BaseException:
            for sparse in self._weights:
                sparse.drop_extra()
            detach(model)
            raise

    def _served(self) -> list[SparseWeight]:
        """The weights that the method has a part in: where N = M training is dense."""
        return [weight for weight in self._weights if weight.asked.n < weight.asked.m]

    # -- schedule -----------------------------------------------------------------------------------------------
    def observe(self, loss: float | None = None, total: int | None = None) -> None:
        """Tell the method the loss of the last step, and how many optimizer steps this phase has in all."""
        self.method.now.tell(loss, total)

    def _set_patterns(self) -> bool:
        """Put the patterns of the coming forward pass in force; did one change?"""
        changed = False
        for weight in self._served() if "pattern" in self._own else ():
            if (asked := self.method.pattern(weight, self._phase_steps)) != weight.pattern:
                weight.repattern(asked)
                changed = True
        return changed

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
        self.method.now.phase, self.method.now.step = phase, 0
        self._updates.forget()
        if self._set_patterns() and self._rule in STAYS:
            renew(self._weights)
        self._set_rule()

    def adopt(self, steps: int) -> None:
        """Count `steps` optimizer steps of this phase that were done elsewhere; load the weights that they gave first.

        No flips are known of them: `sad.uncounted` says how many steps are so.
        """
        self._require_live()
        self.steps += steps
        self._phase_steps += steps
        self.method.now.step = self._phase_steps
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
        held = [(w.name, p) for w in self._weights for p in (w.parameter, *w.extra.values())]
        missing = [name for name, p in held if p.requires_grad and not self._binding.covers(p)]
        if missing:
            names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            warnings.warn(f"bind(): no bound optimizer holds these sparse weights: {names}", stacklevel=2)

    def unbind(self) -> None:
        """Take the hooks off the optimizers again."""
        self._binding.clear()

    def forget_terms(self) -> None:
        """The gradients are made anew, or the update was skipped: the term may be added again."""
        self._updates.forget()

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer | None = None) -> None:
        """Add the method's gradient term, once, to gradients that are accumulated, averaged, unscaled and clipped.

        With `optimizer`, only its parameters. A parameter without a gradient is left alone, as torch's
        optimizers do. Raises RuntimeError if the term was added already for this step.
        """
        self._require_live()
        if self._rule != DENSE or self._updates.when_dense:
            self._updates.before(optimizer)

    @torch.no_grad()
    def step(self) -> None:
        """After the optimizer's update: renew the masks, count flips, follow the schedule."""
        self._require_live()
        self._scope.depth = 0  # no forward pass is going on: one that a KeyboardInterrupt cut off never left
        self.steps += 1
        self._phase_steps += 1
        self.method.now.step = self._phase_steps
        self._updates.after()
        coming = self.method.rule(self.phase, self._phase_steps)
        if self._set_patterns() or not (self._rule == HOLD or (coming == KEEP and self._rule != DENSE)):
            self.sad.append(renew(self._weights))
        else:
            self.sad.append([0] * len(self._weights))
        if self._rule == HOLD:
            for weight in self._weights:
                weight.bake()  # momentum and weight averaging may have moved a pruned weight off zero
        self._set_rule()

    def refresh(self) -> None:
        """Renew the masks after weights were changed from outside (an EMA swap, a manual edit). Counts no flips.

        A mask that the method holds (one-shot, asp) stays.
        """
        self._require_live()
        self._renew()

    def _renew(self) -> None:
        renew([weight for weight in self._weights if weight.rule not in STAYS])

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
        """Schedule, phase, counters, what the method keeps, and masks that stay. Tensors and plain values only."""
        kept = self._rule in STAYS or "mask" in self._own
        return {
            "version": 2,
            "pattern": str(self.pattern),
            "method": self.method.name,
            "hyper": dict(self.method.hyper),
            "phase": self.phase,
            "steps": self.steps,
            "phase_steps": self._phase_steps,
            "names": [w.name for w in self._weights],
            "sad": self.sad.state_dict(),
            "masks": [w.mask.clone() for w in self._weights] if kept else [],
            "now": {"total": self.method.now.total, "loss": self.method.now.loss},
            "memory": copied(self.method.memory),
            "layers": [copied(w.memory) for w in self._weights],
            "patterns": [(w.pattern.n, w.pattern.m) for w in self._weights],
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
        self._load_method(state)
        self._set_rule()
        for weight, mask in zip(self._weights, state["masks"], strict=False):
            weight.mask.copy_(mask)
            weight.drop_cache()
        self.refresh()

    def _load_method(self, state: Mapping[str, Any]) -> None:
        now = self.method.now
        now.phase, now.step = self.phase, self._phase_steps
        if state["version"] == 1:
            return
        now.total, now.loss = state["now"]["total"], state["now"]["loss"]
        self.method.memory = copied(state["memory"])
        for weight, memory, (n, m) in zip(self._weights, state["layers"], state["patterns"], strict=True):
            weight.memory = copied(memory, weight.values.device)
            weight.repattern(stretch(n, m, weight.asked.axis))

    def finalize(self) -> None:
        """Bake the masks into plain weights; the model is an ordinary nn.Module again. The counters stay readable.

        A dense method only lets go of the model. Twice does nothing. Warns where the method took no part in training.
        """
        if self._finalized:
            return
        if self.steps == 0 and any(weight.untold for weight in self._weights):
            warn_of_no_step(self.method)
        elif self.steps and self.method.sparse and self._rule == DENSE:
            warn_of_dense_end(self.method, self.phase, self._phase_steps)
        if self.method.sparse:
            settle(self._weights, self.method.name)
            found = {weight.name: weight.pattern for weight in self._weights if weight.pattern != self.pattern}
            self.layers = [replace(info, pattern=found.get(info.name)) for info in self.layers]
        self.unbind()
        detach(self._model)
        for weight in self._served():
            if self.method.sparse and (survivor := self.method.survivor(weight)) is not None:
                weight.survive(survivor)
            else:
                weight.drop_extra()
        self._finalized = True

    def _require_live(self) -> None:
        if self._finalized:
            raise RuntimeError("this handle was finalised: the model is an ordinary nn.Module now")
