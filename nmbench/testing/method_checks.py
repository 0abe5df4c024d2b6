"""The checks of a method, on a little network of its own. The context is a MethodBench.

Each function is one check.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity import Handle, NMPattern, audit
from nmbench.sparsity.allocation import read
from nmbench.sparsity.methods.base import DENSE, FOLLOW, HOLD, KEEP, Method
from nmbench.sparsity.methods.dense import Dense
from nmbench.sparsity.select import find_weights
from nmbench.testing.battery import Failed, Skip, check, collected
from nmbench.testing.bench import digest, drawn, generators, weights

__all__ = ["METHOD_CHECKS", "MethodBench"]

_STEPS = 12
_PATTERNS = ("2:4", "1:4", "4:8", "1:8", "2:8")


class MethodBench:
    """Trains a network of a convolution and two linear layers on made-up batches by `method`, installed or not."""

    def __init__(self, method: type[Method]) -> None:
        self.method = method

    def start(self, pattern: str = "2:4", method: type[Method] | None = None) -> tuple[nn.Module, Handle]:
        """A network with the method on it, always from the same weights; its layers are called 0, 3 and 5."""
        generator = torch.Generator().manual_seed(7)
        model = nn.Sequential(
            nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 16), nn.ReLU(), nn.Linear(16, 4)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        handle = Handle(model, read(pattern), (method or self.method)(), find_weights(model), None)
        handle.observe(total=_STEPS)
        return model, handle

    def usable(self) -> list[str]:
        """Patterns that the method does not refuse. Raises Skip where there is none."""
        refuses = self.method().refuses
        if found := [text for text in _PATTERNS if not refuses(NMPattern.parse(text))]:
            return found
        raise Skip("it refuses every pattern that is tried")

    def train(self, model: nn.Module, handle: Handle, phase: int, first: int, last: int, state: Any = None) -> Any:
        """Steps `first` to `last` of training pass `phase`; returns the optimizer's state."""
        optimizer = self.optimizer(model, adam=self.method.adam)
        if state is not None:
            optimizer.load_state_dict(state)
        handle.bind(optimizer)
        for step in range(first, last):
            generator = torch.Generator().manual_seed(1000 * phase + step)
            images = torch.randn(8, 4, 5, 5, generator=generator)
            loss = nn.functional.cross_entropy(model(images), torch.arange(8) % 4)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return optimizer.state_dict()

    @staticmethod
    def optimizer(model: nn.Module, *, adam: bool = False) -> torch.optim.Optimizer:
        """SGD with momentum and weight decay, or AdamW: both move a weight that has no gradient."""
        if adam:
            return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=1e-3)
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)

    def trained(
        self, pattern: str = "2:4", method: type[Method] | None = None, phases: int | None = None
    ) -> tuple[nn.Module, Handle]:
        """All training passes, not finalised."""
        model, handle = self.start(pattern, method)
        self.run_through(model, handle, range(self.method.phases if phases is None else phases))
        return model, handle

    def run_through(self, model: nn.Module, handle: Handle, phases: Iterable[int]) -> None:
        """Those training passes, one after the other."""
        for phase in phases:
            handle.start_phase(phase)
            self.train(model, handle, phase, 0, _STEPS)


@check("it is a Method whose name is its entry point's, with plain defaults, and refuses other settings")
def method_is_declared(bench: MethodBench) -> None:
    cls = bench.method
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise Failed(f"{cls!r} is not a subclass of nmbench.sparsity.Method")
    if cls.phases < 1:
        raise Failed(f"it declares {cls.phases} training passes")
    made = cls()
    if made.hyper != cls.declared().defaults:
        raise Failed(f"made without settings it has {made.hyper}, not its defaults")
    try:
        cls(no_such_setting=1)
    except ValueError:
        return
    raise Failed("it takes a setting that it does not declare")


@check("its mask rule is one of DENSE, FOLLOW, KEEP and HOLD, and depends on phase and step alone")
def rule_is_known(bench: MethodBench) -> None:
    method = bench.method()
    method.now.total = 50
    asked = [(phase, step) for phase in range(method.phases) for step in range(50)]
    said = [method.rule(*place) for place in asked]
    if wrong := sorted({str(rule) for rule in said} - {DENSE, FOLLOW, KEEP, HOLD}):
        raise Failed(f"rule() returned {', '.join(wrong)}")
    if [method.rule(*place) for place in reversed(asked)] != said[::-1]:
        raise Failed("rule() answers otherwise when it is asked again")


@check("its gradient rule changes the gradient only, as its reference says")
def gradient_is_as_declared(bench: MethodBench) -> None:
    generator = torch.Generator().manual_seed(3)
    weight, grad = (torch.randn(16, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(16, 32, generator=generator) < 0.5
    kept_weight, kept_mask, given = weight.clone(), mask.clone(), grad.clone()
    method = bench.method()
    method.gradient(grad, weight, mask)
    if not torch.equal(weight, kept_weight) or not torch.equal(mask, kept_mask):
        raise Failed("gradient() changes the weight or the mask")
    expected: Tensor | None = method.reference_gradient(given.clone(), kept_weight, kept_mask)
    if expected is None:
        raise Skip("it declares no reference_gradient()")
    if not torch.allclose(grad, expected, rtol=1e-9, atol=1e-12):
        raise Failed(f"gradient() is off its reference by up to {float((grad - expected).abs().max()):.3g}")


@check("after all its training passes the finalised weights keep the pattern")
def pattern_is_kept(bench: MethodBench) -> None:
    for pattern in bench.usable()[:3]:
        model, handle = bench.trained(pattern)
        handle.finalize()
        report = audit(model, pattern, handle.layers)
        if bench.method.sparse and not report.ok:
            raise Failed(f"the pattern {pattern} is broken in {next(x.name for x in report.layers if x.violations)}")
        if not bench.method.sparse and report.density < 1:
            raise Failed("it declares a dense result, and some weights are zero")


@check("layers with patterns of their own, where it takes such, keep them, and a layer without one stays whole")
def layers_keep_patterns_of_their_own(bench: MethodBench) -> None:
    if not bench.method.layerwise:
        return  # sparsify() refuses such patterns for it
    first, *others = bench.usable()
    asked = f"3={first},5={[first, *others][:2][-1]}"
    model, handle = bench.trained(asked)
    masks = audit(handle.masks, asked, [line for line in handle.layers if line.sparse])
    broken = [line.name for line in masks.layers if line.violations]
    if bench.method.sparse and broken:  # of the masks, since finalize() cuts what a method leaves too dense
        raise Failed(f"with {asked} the mask of {broken[0]} breaks its pattern")
    handle.finalize()
    if not model.get_parameter("0.weight").all():
        raise Failed(f"with {asked}, which leaves 0.weight dense, some of its weights are zero")


@check("a pattern with N equal to M gives exactly the weights of dense training")
def equal_n_and_m_is_harmless(bench: MethodBench) -> None:
    model, handle = bench.trained("4:4")
    handle.finalize()
    dense, other = bench.trained("4:4", Dense, bench.method.phases)
    other.finalize()
    if digest(weights(model)) != digest(weights(dense)):
        raise Failed("with 4:4, which prunes nothing, it ends with other weights than dense training")


@check("stopped and resumed from its saved state, it ends with the weights and counters of an uninterrupted run")
def state_is_resumed(bench: MethodBench) -> None:
    whole, counted = bench.trained()
    for stop in ((0, 5), (bench.method.phases - 1, 7)):
        model, handle = _resumed(bench, *stop)
        if digest(weights(model)) != digest(weights(whole)):
            raise Failed(f"resumed in pass {stop[0]} after step {stop[1]}, it ends with other weights")
        if handle.sad.total != counted.sad.total or handle.steps != counted.steps:
            raise Failed(f"resumed in pass {stop[0]} after step {stop[1]}, its counters differ")


def _resumed(bench: MethodBench, phase: int, step: int) -> tuple[nn.Module, Handle]:
    model, handle = bench.start()
    bench.run_through(model, handle, range(phase))
    handle.start_phase(phase)
    state = bench.train(model, handle, phase, 0, step)
    fresh, again = bench.start()
    fresh.load_state_dict(model.state_dict())
    again.start_phase(phase)
    again.load_state_dict(handle.state_dict())
    bench.train(fresh, again, phase, step, _STEPS, state)
    bench.run_through(fresh, again, range(phase + 1, bench.method.phases))
    return fresh, again


@check("it draws no random number: twins would drift apart")
def nothing_is_drawn(bench: MethodBench) -> None:
    model, handle = bench.start()
    before = generators()
    bench.run_through(model, handle, range(bench.method.phases))
    if draws := drawn(before):
        raise Failed(f"it draws from the global generator of {', '.join(draws)}")


METHOD_CHECKS = collected(globals())
