"""A model's tensors in one safetensors file, which holds a tensor that has several names under one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench._util.files import replacing

if TYPE_CHECKING:
    from torch import Tensor, nn


def save(model: nn.Module, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write the model's state dict to `path`. Raises OSError where that cannot be written."""
    from safetensors.torch import save_model

    with replacing(path) as temporary:
        save_model(model, str(temporary), None if metadata is None else dict(metadata))


def digest(path: Path | str) -> str:
    """SHA-256 of the file. Raises OSError."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(model: nn.Module, path: Path | str, sha256: str | None = None, *, pickled: bool = False) -> None:
    """Load what `save` wrote, or any file that has each of the model's tensors under one of its names at least.

    Tensors that a training method put beside the weights need not be in it; these stay as they are.
    Not by safetensors' own function, which refuses a model that fills in the other names itself.

    sha256: hash of the file, where a record tells it. pickled: it may be a state dict of torch.save, which is read
    without running code.

    Raises RuntimeError, as torch does, if names or shapes do not fit; OSError or SafetensorError for a broken file, and
    ValueError for one that is neither.
    """
    from safetensors.torch import load_file

    from nmbench.sparsity.attach import learnables

    if sha256 is not None and digest(path) != sha256:
        raise OSError(f"{Path(path).name} has changed since it was written")
    state = _unpickled(path) if pickled and not _is_safetensors(path) else load_file(path)
    own = model.state_dict()
    held = {_memory(own[name]) for name in {*(name for name in state if name in own), *learnables(model)}}
    found = model.load_state_dict(state, strict=False)
    wrong = {
        "Missing": [name for name in found.missing_keys if name not in own or _memory(own[name]) not in held],
        "Unexpected": found.unexpected_keys,
    }
    said = [f"{kind} key(s): {', '.join(map(repr, names))}" for kind, names in wrong.items() if names]
    if said:
        raise RuntimeError("\n".join([f"{path} does not fit {type(model).__name__}:", *said]))


def _is_safetensors(path: Path | str) -> bool:
    """Does JSON come after the first eight bytes?"""
    with Path(path).open("rb") as file:
        return file.read(9)[8:] == b"{"


def _unpickled(path: Path | str) -> Mapping[str, Tensor]:
    """The state dict in a file of torch.save, alone or as its entry `state_dict` or `model`."""
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises whatever it likes
        raise ValueError(
            f"{path} is neither a safetensors file nor a state dict that torch.load(weights_only=True) reads"
        ) from error
    for key in ("state_dict", "model"):
        held = held[key] if isinstance(held, Mapping) and isinstance(held.get(key), Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ValueError(f"{path} holds no state dict: save model.state_dict()")
    return held


def _memory(tensor: Tensor) -> object:
    """What two names of one tensor have in common; nothing has it in common with an empty one."""
    address = tensor.untyped_storage().data_ptr()
    return (tensor.device, address) if address else object()
