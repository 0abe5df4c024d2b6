"""Everything that keeps fairseq 0.12.2 importable and honest on current Python, hydra and torch, and nothing else.

Import this module before any `from fairseq...`: importing it imports fairseq. Nothing of fairseq is copied.
"""

import dataclasses
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

#: what `TransformerEncoderLayerBase.__init__` registers beside the real weights, for the fused path
SHADOWS = tuple(f"{part}_{kind}" for part in ("in_proj", "out_proj", "fc1", "fc2") for kind in ("weight", "bias"))

_NOTHING = torch.empty(0)  # a tensor, but no parameter and no buffer: neither trained, nor saved, nor counted

#: everything that the task uses of fairseq, so that no part is first imported after `_importable` has ended
_USED = (
    "fairseq",
    "fairseq.criterions.label_smoothed_cross_entropy",
    "fairseq.data.data_utils_fast",
    "fairseq.data.iterators",
    "fairseq.models.transformer",
    "fairseq.modules.transformer_layer",
    "fairseq.optim.adam",
    "fairseq.optim.lr_scheduler.inverse_square_root_schedule",
    "fairseq.options",
    "fairseq.sequence_generator",
    "fairseq.tasks.translation",
    "fairseq_cli.preprocess",
)


@contextmanager
def _importable() -> Iterator[None]:
    """The changes that hold only while fairseq is being imported."""
    dataclass = dataclasses.dataclass

    def lenient(cls: type | None = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda real: lenient(real, **options)
        made: Any = dataclass(cls, **options)
        # Python 3.11 refuses an unhashable default as a mutable one, and every dataclass that compares by value is
        # unhashable. fairseq's configurations are made of such defaults (`common: CommonConfig = CommonConfig()`).
        if made.__hash__ is None:
            made.__hash__ = object.__hash__
        return made

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logging.disable(logging.INFO)  # "Please install tensorboardX", whatever one trains
    dataclasses.dataclass = lenient
    try:
        with warnings.catch_warnings():
            # torch calls `torch.cuda.amp.custom_fwd` and others deprecated, some fifty times
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        dataclasses.dataclass = dataclass
        logging.disable(logging.NOTSET)
        # fairseq_cli.preprocess configures the root logger of whoever imports it; the worker's own stays
        root.handlers[:] = handlers
        root.setLevel(level)


def _without_fused_path(layer: type[nn.Module]) -> None:
    """Let encoder layers of class `layer` compute with their real weights, always.

    fairseq copies q, k, v, out, fc1 and fc2 into shadow parameters when weights are loaded, and in evaluation uses
    the copies alone. A sparse model would be evaluated dense, and the copies would be saved, counted and optimised.
    """
    make: Callable[..., None] = layer.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        for name in SHADOWS:
            delattr(self, name)
            setattr(self, name, _NOTHING)  # torch.jit.script compiles the fused path too, and so asks for its names
        self.can_use_fastpath = False  # both the layer and the encoder ask this before they take the fused path

    layer.__init__ = init  # type: ignore[method-assign]  # of a class whose source is not ours
    # fairseq's own fills the shadows while it loads; torch's, which it overrides, only loads
    del layer._load_from_state_dict


with _importable():
    for _name in _USED:
        importlib.import_module(_name)

from fairseq.modules.transformer_layer import TransformerEncoderLayerBase  # noqa: E402

_without_fused_path(TransformerEncoderLayerBase)
