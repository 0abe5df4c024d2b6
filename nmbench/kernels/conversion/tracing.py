"""What a module's own forward pass does, as a graph in which everything that it calls is a leaf.

One module at a time: a model that torch.fx cannot follow as a whole (a detector, RAFT) mostly has blocks that it can.
"""

import inspect
from collections import Counter
from collections.abc import Iterator

from torch import fx, nn

from nmbench.kernels.conversion.survey import has_hooks


class _Leaves(fx.Tracer):
    """Nothing that is called is looked into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """All are."""
        return True


def graphs(model: nn.Module) -> Iterator[tuple[str, nn.Module, fx.Graph]]:
    """(name, module, graph) of the modules that torch.fx can follow; `model` itself, under "", comes first."""
    for name, module in model.named_modules():
        if next(module.children(), None) is not None and (graph := _graph(module)) is not None:
            yield name, module, graph


def _graph(module: nn.Module) -> fx.Graph | None:
    """None where its forward takes anything but plain arguments, has hooks around it, or cannot be followed."""
    parameters = inspect.signature(type(module).forward).parameters.values()
    if has_hooks(module) or any(p.default is not p.empty or p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
        return None
    kept = dict(module.__dict__)
    inner = {name: dict(module.__dict__[name]) for name in ("_parameters", "_buffers", "_modules")}
    try:
        return _Leaves().trace(module)
    except Exception:  # whatever a forward of anyone's does with what is no tensor
        return None
    finally:  # what it noted on itself was no tensor either
        module.__dict__.clear()
        module.__dict__.update(kept)
        for name, entries in inner.items():
            kept[name].clear()
            kept[name].update(entries)


def called_once(graph: fx.Graph) -> dict[fx.Node, str]:
    """The nodes that call a module which nothing else in the graph names, on one argument; and its name."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op == "get_attr":  # of "block.conv.weight" all modules that hold it
            calls.update(str(node.target)[:end] for end, sign in enumerate(str(node.target)) if sign == ".")
    return {
        node: str(node.target)
        for node in graph.nodes
        if node.op == "call_module" and calls[str(node.target)] == 1 and len(node.args) == 1 and not node.kwargs
    }


def only_user(node: fx.Node) -> fx.Node | None:
    """Who reads it, if it is one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def places(model: nn.Module) -> Counter[nn.Module]:
    """Module -> under how many parents and names it stands."""
    return Counter(child for parent in model.modules() for child in parent._modules.values() if child is not None)
