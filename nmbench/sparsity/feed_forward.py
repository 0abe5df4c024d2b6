"""Which weights are of the feed-forward layers of transformers, by the structure of a model and the names in it.

They are linear layers beside attention, in a module that has both (torch.nn.TransformerEncoderLayer, the blocks of
torchvision, timm, fairseq and Hugging Face), or in a module that is called so (mmcv's FFN). Beside attention, only
layers that feed each other count: one widens, and one is as wide inside and leads back.
"""

import re
from collections.abc import Iterator, Mapping

from torch import nn

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_CALLED = re.compile(r"(ffns?|feed_?forward)(_?layer|_?module|_?network|\d)*|_?FeedForward\w*", re.IGNORECASE)
_ROUTERS = ("gate", "router")


def _attends(name: str, module: nn.Module) -> bool:
    return bool(_ATTENTION.search(name) or _ATTENTION.search(type(module).__name__))


def _apart(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """`module` and what is in it, attention left out, each with its name."""
    yield prefix, module
    for name, child in module.named_children():
        if not _attends(name, child):
            yield from _apart(child, f"{prefix}.{name}" if prefix else name)


def _matrices(module: nn.Module, prefix: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each matrix in `module`, attention left out."""
    return {
        f"{name}.{key}" if name else key: tuple(parameter.shape)
        for name, part in _apart(module, prefix)
        for key, parameter in part._parameters.items()
        if parameter is not None and parameter.dim() == 2 and name.rpartition(".")[2] not in _ROUTERS
    }


def _feed_each_other(matrices: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Those of which one leads (out, in) and another back, where a gated one has both halves in one matrix."""
    found = set()
    for name, (out, inputs) in matrices.items():
        for other, (back, inner) in matrices.items():
            if other != name and back == inputs and out in (inner, 2 * inner):
                found |= {name, other}
    return found


def _beside_attention(module: nn.Module, prefix: str, of_attention: bool) -> set[str]:
    found: set[str] = set()
    children = dict(module.named_children())
    if not of_attention and any(_attends(name, child) for name, child in children.items()):
        found |= _feed_each_other(_matrices(module, prefix))
    for name, child in children.items():
        path = f"{prefix}.{name}" if prefix else name
        inside = _attends(name, child)
        if not inside and (_CALLED.fullmatch(name) or _CALLED.fullmatch(type(child).__name__)):
            found |= _matrices(child, path).keys()
        found |= _beside_attention(child, path, inside)
    return found


def feed_forward(model: nn.Module) -> set[str]:
    """Names of the parameters; none where the model is no transformer."""
    if not any(_attends(name.rpartition(".")[2], module) for name, module in model.named_modules() if name):
        return set()
    return _beside_attention(model, "", of_attention=False)
