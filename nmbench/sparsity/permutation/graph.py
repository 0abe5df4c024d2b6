"""A torch.fx graph walked through once: which channels each value has, hence which tensors must move together.

Where an operation may do anything to the order of channels, they stay as they are and the reason is kept.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nmbench.sparsity.permutation import rules
from nmbench.sparsity.permutation.layers import is_layer, read_layer
from nmbench.sparsity.permutation.rules import Unknown, Value
from nmbench.sparsity.permutation.spaces import Channels, Couplings, Part, Space, Touch, couple


class _Tracer(fx.Tracer):
    """Goes into everything but layers of torch's, along the branches that the given arguments take.

    numbers: node -> its value, where a branch depended on it. opaque: names of modules that could not be gone into,
    which are nodes of the graph.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.given, self.numbers, self.opaque = given, dict[fx.Node, Any](), list[str]()
        self._computing = False  # a number, so that nothing is traced

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_layer(m)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def number(self, wanted: fx.Node) -> Any:
        """The value of a node; those before it are computed too, if nothing asked for them yet."""
        self._computing = True
        try:
            for node in self.graph.nodes:
                if node not in self.numbers:
                    self.numbers[node] = self._compute(node)
                if node is wanted:
                    break
        finally:
            self._computing = False
        return self.numbers[wanted]

    def _compute(self, node: fx.Node) -> Any:
        target: Any = node.target
        if node.op == "placeholder":  # fx numbers those whose value it is told
            return self.given.get(target, self.given.get(target.rpartition("_")[0]))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.numbers.__getitem__)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        if node.op == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        if node.op == "get_attr":
            return operator.attrgetter(target)(self.root)
        return target(*args, **kwargs) if node.op == "call_function" and target is not torch._assert else None

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.number(obj.node))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return iter([obj[i] for i in range(len(self.number(obj.node)))])  # type: ignore[index]

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A module that cannot be gone into becomes a node."""
        if self._computing:
            return forward(*args, **kwargs)
        last, stack = next(iter(reversed(self.graph.nodes)), None), self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # whatever a stranger's forward does with a proxy
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self.graph.erase_node(node)
            self.module_stack = stack
            self.opaque.append(self.path_of_module(m))
            return self.create_proxy("call_module", self.opaque[-1], args, kwargs)


@dataclass
class Seen:
    """How a module was called: its arguments by name, in the order of its signature."""

    module: nn.Module
    arguments: dict[str, Any]

    @classmethod
    def called(cls, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen | None:
        """None where the arguments cannot be named."""
        try:
            signature = inspect.signature(module.forward)
            if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
                return None
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
        except (TypeError, ValueError):
            return None
        return cls(module, dict(bound.arguments))

    def trace(self) -> tuple[fx.GraphModule, list[str]] | None:
        """Its graph, and the parts that are single nodes of it; None where fx cannot follow it."""
        fixed = {name: value for name, value in self.arguments.items() if not isinstance(value, Tensor)}
        tracer = _Tracer(self.arguments)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # fx' own, about arguments that are no numbers
                graph = tracer.trace(self.module, concrete_args=fixed or None)
            return fx.GraphModule(self.module, graph), tracer.opaque
        except Exception:
            return None


class Walk(fx.Interpreter):
    """Runs a graph on numbers, for the shapes, and beside them keeps what is known of channels."""

    def __init__(self, traced: fx.GraphModule, couplings: Couplings) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.couplings = couplings
        self.values: dict[fx.Node, Value] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The node's number; what is known of its channels goes to `values`."""
        out = super().run_node(n)
        self.values[n] = self._known(n, out)
        return out

    def _known(self, n: fx.Node, out: Any) -> Value:
        if n.op == "placeholder":
            return Unknown("its input comes from outside the graph") if isinstance(out, Tensor) else None
        if n.op == "get_attr":
            return Unknown(f"{n.target} takes part in its input", str(n.target)) if isinstance(out, Tensor) else None
        inputs = [self.values[one] for one in n.all_input_nodes]
        if n.op == "output":
            fix(inputs, "the model's output depends on its order")
            return None
        if n.op == "call_module":
            return self._layer(n, out)
        rule = rules.rule(n)
        if rule is not None and (known := rule(Operation(n, out, self))) is not NotImplemented:
            return known
        if not _tensors(out):  # sizes, comparisons
            return None
        why = f"{rules.name(n)} may change the order of its channels"
        fix(inputs, why)
        return Unknown(why)

    def _layer(self, n: fx.Node, out: Any) -> Value:
        module = self.fetch_attr(str(n.target))
        arguments = [self.values[a] if isinstance(a, fx.Node) else None for a in n.args]
        arguments += [self.values[a] for a in n.kwargs.values() if isinstance(a, fx.Node)]
        shapes = [getattr(self.env.get(a), "ndim", 0) if isinstance(a, fx.Node) else 0 for a in n.args]
        known = read_layer(module, [a for a in arguments if a is not None], shapes[0] if shapes else 0, self.couplings)
        if known is NotImplemented:
            why = f"{type(module).__name__} may change the order of its channels"
            fix(arguments, why)
            return Unknown(why)
        return known

    def loose(self, value: Unknown, channels: Channels, ndim: int) -> bool:
        """Let a parameter that is added to or multiplied with `channels` move along; False if it cannot."""
        if not value.target:
            return False
        path, _, key = value.target.rpartition(".")
        owner = self.module.get_submodule(path)
        if key not in owner._parameters and key not in owner._buffers:
            return False
        tensor = getattr(owner, key)
        dim = channels.dim - (ndim - tensor.ndim)
        if dim < 0 or tensor.shape[dim] == 1:
            return True
        if tensor.shape[dim] != channels.size:
            return False
        self.couplings.add(Touch(owner, key, dim, channels))
        return True


@dataclass
class Operation:
    """A call of a function or of a tensor's method: its node, its result, and where it was met."""

    node: fx.Node
    out: Any
    walk: Walk

    def value(self, argument: Any) -> Value:
        """What is known of an argument; None for what is no tensor."""
        return self.walk.values.get(argument) if isinstance(argument, fx.Node) else None

    def number(self, argument: Any) -> Any:
        """The argument itself."""
        return fx.node.map_arg(argument, lambda node: self.walk.env[node])

    @property
    def first(self) -> Value:
        """What is known of the first argument."""
        return self.value(self.node.args[0]) if self.node.args else None

    @property
    def shape(self) -> torch.Size:
        """Of the first argument."""
        return self.number(self.node.args[0]).shape  # type: ignore[no-any-return]

    def argument(self, place: int, name: str, default: Any) -> Any:
        """An argument by its place or name, as a number."""
        if len(self.node.args) > place:
            return self.number(self.node.args[place])
        return self.number(self.node.kwargs.get(name, default))


def fix(values: Iterable[Value], why: str) -> None:
    """The channels of all of them stay as they are."""
    for value in values:
        if isinstance(value, Channels):
            value.fix(why)
        elif isinstance(value, tuple):
            fix(value, why)


def _tensors(out: Any) -> bool:
    return isinstance(out, Tensor) or (isinstance(out, list | tuple) and any(map(_tensors, out)))


def fixed_channels(dim: int, size: int, why: str) -> Channels:
    """Channels of which nothing is known but that their order stays."""
    return Channels(dim, (Part(Space(size, why)),))


def walk(model: nn.Module, seen: dict[str, Seen], couplings: Couplings, told: Callable[[str], None]) -> None:
    """Walk through `model`, or where that cannot be traced through its children, and theirs.

    seen: name of a module -> how it was called. told: the names of modules whose graphs were walked through.
    """
    for name, call, traced in _regions(model, seen, ""):
        try:
            before = len(couplings.touches)
            Walk(traced, couplings).run(*call.arguments.values())
        except Exception:  # the graph does not run as the module does
            for touch in couplings.touches[before:]:
                touch.channels.fix("its graph could not be run")
            continue
        told(name)


def _regions(module: nn.Module, seen: dict[str, Seen], name: str) -> Iterator[tuple[str, Seen, fx.GraphModule]]:
    """The outermost parts that fx can trace, and those within what is but a node of them."""
    if is_layer(module):
        return
    call = seen.get(name)
    traced = call.trace() if call is not None else None
    below = [key for key, _ in module.named_children()]
    if call is not None and traced is not None:
        yield name, call, traced[0]
        below = [f"{path}.{key}" for path in traced[1] for key, _ in module.get_submodule(path).named_children()]
    for key in below:
        yield from _regions(module.get_submodule(key), seen, f"{name}.{key}" if name else key)


__all__ = ["Operation", "Seen", "Walk", "couple", "fix", "fixed_channels", "walk"]
