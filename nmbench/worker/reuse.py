"""A training pass taken from another cell: ASP's first one is the dense twin's training, step by step.

load      the twin's weights into a model; its record
steps     loss and learning rate of each step, as far as its record tells
"""

from __future__ import annotations

import importlib.metadata
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench.records import weights
from nmbench.records.attempt import read_record
from nmbench.records.schema import Record, UnreadableRecord

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NotReusable", "load", "steps"]


_WEIGHTS = "weights.safetensors"


class NotReusable(Exception):
    """The twin's training cannot stand for one here; the text says why."""


def load(model: nn.Module, attempt: Path, fingerprint: str) -> Record:
    """Load the weights of the attempt in the folder `attempt` into `model`; its record.

    fingerprint: of the data that this cell sees. Raises NotReusable, and leaves the model as it was, if the twin saw
    other data, ran on another torch, counted no steps, or its files cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        record = read_record(attempt / "record.json")
        with safe_open(attempt / _WEIGHTS, "pt"):
            pass
    except (UnreadableRecord, OSError, SafetensorError) as error:
        raise NotReusable(f"the files of the dense twin cannot be read ({error})") from error
    if (record.get("data") or {}).get("fingerprint") != fingerprint:
        raise NotReusable("the dense twin saw other data")
    if record["environment"]["versions"].get("torch") != importlib.metadata.version("torch"):
        raise NotReusable("the dense twin ran on another version of torch")
    if not steps(record):
        raise NotReusable("the record of the dense twin has no steps")
    weights.load(model, attempt / _WEIGHTS)
    return record


def steps(record: Record) -> list[tuple[float, float]]:
    """(loss, learning rate) of each optimizer step; within a bin of the record's curve they are all the same."""
    curve = record.get("curve") or {}
    ends = [0, *curve.get("step", [])]
    lrs = [float("nan") if lr is None else float(lr) for lr in curve.get("lr", [])]
    bins = zip(itertools.pairwise(ends), curve.get("loss", []), lrs, strict=True)
    return [(float(loss), lr) for (start, stop), loss, lr in bins for _ in range(stop - start)]
