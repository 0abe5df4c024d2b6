"""ReLU and the addition of a residual, done by the layer before them while its outputs are in registers.

Only where the layer's product can (`Backend.fuses`), and where torch.fx can follow the module that calls them.
"""

import operator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional as F

from nmbench.kernels.conversion.layers import SparseLayer
from nmbench.kernels.conversion.reordered import ReorderedLayer
from nmbench.kernels.conversion.tracing import called_once, graphs, only_user, places

_ADDITIONS = (operator.add, operator.iadd, torch.add)
Ours = SparseLayer | ReorderedLayer
_OURS = (SparseLayer, ReorderedLayer)
_RELUS = (F.relu, torch.relu, torch.relu_)


@dataclass
class Fused:
    """How many of each were fused."""

    relus: int = 0
    additions: int = 0


def fuse(model: nn.Module) -> Fused:
    """Fuse what can be, in place. A module whose own code is left out becomes a `torch.fx.GraphModule`."""
    fused = Fused()
    owners = places(model)
    rewritten: dict[nn.Module, fx.Graph] = {}
    for name, unit, graph in graphs(model):
        layers = {
            node: module
            for node, path in called_once(graph).items()
            if isinstance(module := unit.get_submodule(path), _OURS) and module.fuses and owners[module] == 1
        }
        changed = [_fuse(node, module, unit, owners, fused, bool(name)) for node, module in layers.items()]
        if any(changed):
            rewritten[unit] = graph
    for unit, graph in rewritten.items():
        graph.lint()
        made = fx.GraphModule(unit, graph, type(unit).__name__)
        made.training = unit.training
        for key, value in unit.__dict__.items():  # what others may ask of it
            made.__dict__.setdefault(key, value)
        for parent in model.modules():
            for key, child in parent._modules.items():
                if child is unit:
                    parent._modules[key] = made
    return fused


def _fuse(node: fx.Node, layer: Ours, unit: nn.Module, owners: dict[nn.Module, int], fused: Fused, inner: bool) -> bool:
    """Fuse what follows one layer. Was the graph changed? inner: it may be; else only modules are replaced."""
    last, addend = _past(node, unit), None
    user = only_user(last)
    if inner and user is not None and (other := _other(user, last)) is not None and _stands(node, user, unit):
        last, addend = user, other
        user = only_user(last)
    relu = _is_relu(user, unit)
    if user is not None and relu and not inner:
        return _replaced(user, layer, unit, owners, fused)
    if addend is None and not (relu and inner):
        return False
    last = user if relu and user is not None else last
    fused.relus, fused.additions = fused.relus + relu, fused.additions + (addend is not None)
    layer.relu = relu
    with node.graph.inserting_before(last):
        call = node.graph.call_module(str(node.target), (*node.args, *([] if addend is None else [addend])))
    last.replace_all_uses_with(call)
    _erase(last, call)
    return True


def _past(node: fx.Node, unit: nn.Module) -> fx.Node:
    """The last of the identities that follow it."""
    user = only_user(node)
    if user is None or user.op != "call_module" or not isinstance(unit.get_submodule(str(user.target)), nn.Identity):
        return node
    return _past(user, unit)


def _other(node: fx.Node, one: fx.Node) -> fx.Node | None:
    """What is added to `one`, if `node` is a plain addition of two tensors."""
    if node.op != "call_function" or node.target not in _ADDITIONS or node.kwargs or len(node.args) != 2:
        return None
    others = [arg for arg in node.args if arg is not one]
    return others[0] if len(others) == 1 and isinstance(others[0], fx.Node) else None


def _stands(node: fx.Node, addition: fx.Node, unit: nn.Module) -> bool:
    """May the layer run as late as the addition: does nothing in between write to what it reads?"""
    between = node.next
    while between is not addition:
        if set(node.args) & set(between.all_input_nodes) and _writes(between, unit):
            return False
        between = between.next
    return True


def _writes(node: fx.Node, unit: nn.Module) -> bool:
    """Might it write to what it reads?"""
    if node.op == "call_module":
        module = unit.get_submodule(str(node.target))
        known = isinstance(module, _OURS) or type(module).__module__.startswith("torch.nn.")
        return not known or any(getattr(one, "inplace", False) for one in module.modules())
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or name in ("iadd", "imul", "isub", "setitem")


def _is_relu(node: fx.Node | None, unit: nn.Module) -> bool:
    if node is None:
        return False
    if node.op == "call_module":
        return type(unit.get_submodule(str(node.target))) is nn.ReLU
    if node.op == "call_method":
        return node.target in ("relu", "relu_")
    return node.op == "call_function" and node.target in _RELUS


def _replaced(node: fx.Node, layer: Ours, unit: nn.Module, owners: dict[nn.Module, int], fused: Fused) -> bool:
    """Of the model itself, which keeps its class: a ReLU module that is called once becomes an identity."""
    if node.op == "call_module" and node in called_once(node.graph):
        parent, _, leaf = str(node.target).rpartition(".")
        if owners[unit.get_submodule(str(node.target))] == 1:
            unit.get_submodule(parent)._modules[leaf] = nn.Identity()
            layer.relu = True
            fused.relus += 1
    return False


def _erase(last: fx.Node, call: fx.Node) -> None:
    """Take out what nothing reads any more, from `last` up to the layer's old call."""
    node = last
    while not node.users and node.op in ("call_module", "call_function", "call_method"):
        inputs = [one for one in node.all_input_nodes if one not in call.all_input_nodes]
        node.graph.erase_node(node)
        if len(inputs) != 1:
            break
        node = inputs[0]
