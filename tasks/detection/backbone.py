"""A pretrained backbone from a file: torchvision's ResNet weights, or whatever has the names of mmdet's backbone.

load    the file's weights into the model's backbone
"""

from __future__ import annotations

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
    wanted = backbone.state_dict()
    given = _unwrapped(_read(file))
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    if missing:
        raise DataError(
            f"backbone_weights: {file} is of another architecture: it lacks {len(missing)} of the {len(wanted)} "
            f"weights of this {type(backbone).__name__}, the first is {missing[0]}"
        )
    usable = {name: given[name] for name in wanted if name in given}
    for name, value in usable.items():
        if value.shape != wanted[name].shape:
            raise DataError(
                f"backbone_weights: {file} is of another architecture: {name} has shape {tuple(value.shape)}, "
                f"this {type(backbone).__name__} needs {tuple(wanted[name].shape)}"
            )
    if left := [n for n in given if n.startswith("layer") and n not in wanted]:
        raise DataError(
            f"backbone_weights: {file} is of another architecture: it has {len(left)} weights that this "
            f"{type(backbone).__name__} has not, the first is {left[0]}"
        )
    backbone.load_state_dict(usable, strict=False)


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
