"""What reads changed files of weights, of converted models, and of a run's own state: see `readers`."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign import mutation

Read = Callable[[random.Random], object]
Reader = tuple[Read, tuple[type[Exception], ...]]


def models(folder: Path, converted: bool) -> Reader:
    """Weights of a record, or a converted model: the file's bytes, or what its header says."""
    import torch
    from safetensors import SafetensorError
    from torch import nn

    from nmbench.kernels import apply_choices, load_converted, save_converted
    from nmbench.records import weights
    from nmbench.sparsity import sparsify

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    sparsify(model, "2:4", layers=["0.weight", "2.weight"]).finalize()
    file = folder / "model.safetensors"
    choice = {"backend": "cusparselt", "pattern": "2:4", "settings": {}, "tuned_on": "", "input": [2, 16]}
    if converted:
        save_converted(file, apply_choices(model, {"0": choice, "2": {**choice, "input": [2, 32]}}))
    else:
        weights.save(model, file)
    good = file.read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    header, body = json.loads(good[8 : 8 + length]), good[8 + length :]

    def read(draw: random.Random) -> None:
        data = mutation.flipped(good, draw)
        if draw.random() < 0.6:
            head = json.dumps(_header(header, draw)).encode()
            data = struct.pack("<Q", len(head)) + head + body
        file.write_bytes(data)
        if converted:
            load_converted(file, model)(torch.zeros(2, 16))
        else:
            weights.load(model, file)

    return read, (ValueError,) if converted else (RuntimeError, OSError, SafetensorError)


def _header(header: dict[str, Any], draw: random.Random) -> Any:
    """The choices that the metadata hold are JSON within JSON."""
    told = header.get("__metadata__")
    if not told or draw.random() < 0.5:
        return mutation.changed(header, draw)
    key = draw.choice(list(told))
    try:
        inner = mutation.encoded(mutation.changed(json.loads(told[key]), draw), draw).decode(errors="replace")
    except ValueError:
        inner = draw.choice(mutation.TEXTS[:10])
    return {**header, "__metadata__": {**told, key: inner}}


def state(folder: Path) -> Reader:
    """A run's own files: checkpoints and heartbeats."""
    import torch

    from nmbench.contract.resume import read_state, write_state
    from nmbench.running.job import Beat

    write_state(folder / "last.pt", {"model": {"w": torch.zeros(8, 8)}, "run": {"updates": 3}})
    good = (folder / "last.pt").read_bytes()

    def read(draw: random.Random) -> None:
        (folder / "last.pt").write_bytes(mutation.flipped(good, draw))
        read_state(folder / "last.pt")
        (folder / "beat.json").write_bytes(mutation.encoded(mutation.changed({"stage": "x", "step": 1}, draw), draw))
        Beat.read(folder / "beat.json")

    return read, ()
