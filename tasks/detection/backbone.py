"""A pretrained backbone from a file: torchvision's ResNet weights, or whatever has the names of mmdet's backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmbench._util.errors import first_line
from nmbench.task import DataError

#: where the weights lie in files that hold more than them
_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "backbone.")


def load(model: nn.Module, path: str) -> None:
    """Load the .pth, .pt or .safetensors file `path` into `model.backbone`.

    What the backbone has no use for (a classifier, the heads of a detector) is passed over.
    Raises DataError if the file cannot be read, lacks a weight of the backbone, or has one of another shape.
    """
    file = Path(path).expanduser()
    backbone = model.get_submodule("backbone")
    wanted, given = backbone.state_dict(), _unwrapped(_read(file))
    if fault := _misfit(wanted, given, f"this {type(backbone).__name__}"):
        raise DataError(f"backbone_weights: {file} is of another architecture: {fault}")
    backbone.load_state_dict({name: given[name] for name in wanted if name in given}, strict=False)


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], backbone: str) -> str:
    """What of `given` does not fit the weights `wanted` of `backbone`; "" if all does."""
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    if missing:
        return f"it lacks {len(missing)} of the {len(wanted)} weights of {backbone}, the first is {missing[0]}"
    for name in [name for name in wanted if name in given]:
        have, need = tuple(given[name].shape), tuple(wanted[name].shape)
        if have != need:
            return f"{name} has shape {have}, {backbone} needs {need}"
    left = [name for name in given if name.startswith("layer") and name not in wanted]
    return f"it has {len(left)} weights that {backbone} has not, the first is {left[0]}" if left else ""


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        return dict(torch.load(file, map_location="cpu", weights_only=True))  # weights_only: it executes no code
    except FileNotFoundError:
        raise DataError(f"backbone_weights: there is no file {file}") from None
    except Exception as error:
        raise DataError(f"backbone_weights: {file} cannot be read as weights ({first_line(error)})") from error


def _unwrapped(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by their names in the backbone."""
    for key in _WRAPPERS:
        if isinstance(found.get(key), Mapping):
            found = found[key]
    named = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in named):
            named = {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}
    return named
