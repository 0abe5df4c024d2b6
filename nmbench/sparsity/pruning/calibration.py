"""Calibration data: what may be given, how the model is called with it, and what of it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from nmbench._util.errors import first_line

Forward = Callable[[nn.Module, Any], Any]
Loss = Callable[[nn.Module, Any], Tensor]


class CalibrationError(ValueError):
    """The calibration data are empty, hold numbers that are not finite, or do not fit the model."""


class Stop(Exception):
    """Ends a forward pass of which the rest is not wanted."""


def call(model: nn.Module, batch: Any) -> Any:
    """As most loaders give batches: a tensor is the input, a mapping keywords, a list or tuple positional inputs."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, list | tuple) else model(batch)


@dataclass
class Calibration:
    """Batches on the model's device; `sequences` is the number of examples in them."""

    model: nn.Module
    batches: Sequence[Any]
    forward: Forward
    sequences: int

    @classmethod
    def checked(cls, model: nn.Module, data: Iterable[Any] | Tensor, forward: Forward | None) -> Calibration:
        """Raises CalibrationError if `data` hold no example, or a number that is not finite."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        try:
            batches = [data] if isinstance(data, Tensor | Mapping) else list(data)
            batches = [dict(b) if isinstance(b, Mapping) else b for b in batches]  # pytrees do not know others
        except TypeError:
            raise CalibrationError(f"calibration: an iterable of batches is wanted, not {data!r:.60}") from None
        sequences = 0
        for i, batch in enumerate(batches):
            tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
            if not all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point()):
                raise CalibrationError(f"calibration: batch {i} holds NaN or infinity")
            sequences += next((len(t) for t in tensors if t.dim()), 0)
        if batches and not any(isinstance(leaf, Tensor) for batch in batches for leaf in tree_leaves(batch)):
            kinds = sorted({type(leaf).__name__ for batch in batches for leaf in tree_leaves(batch)})
            raise CalibrationError(f"calibration: batches of torch tensors are wanted, not of {', '.join(kinds)[:60]}")
        if not sequences:
            raise CalibrationError(f"calibration: {len(batches)} batches without one example; give some training data")
        moved = [tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, b) for b in batches]
        return cls(model, moved, forward or call, sequences)

    def run(self, index: int) -> Any:
        """Output of batch `index`; None after `Stop`. Raises CalibrationError if it does not fit the model."""
        try:
            return self.forward(self.model, self.batches[index])
        except Stop:
            return None
        except Exception as error:
            raise CalibrationError(
                f"calibration: batch {index} does not fit the model ({first_line(error)}); "
                "forward=lambda model, batch: ... says how the model is called with it"
            ) from error

    def gradients(self, parameters: Mapping[str, Tensor], loss: Loss | None) -> dict[str, Tensor]:
        """Name -> root of the sum over the batches of the squared gradient. Raises CalibrationError."""
        squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
        asked = {name: p.requires_grad for name, p in parameters.items()}
        for p in parameters.values():
            p.requires_grad_(True)
        try:
            for index, batch in enumerate(self.batches):
                value = self._loss(index, batch, loss)
                found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
                for square, grad in zip(squares.values(), found, strict=True):
                    square.add_(0 if grad is None else grad.square())
        finally:
            for name, p in parameters.items():
                p.requires_grad_(asked[name])
        return {name: square.sqrt() for name, square in squares.items()}

    def _loss(self, index: int, batch: Any, loss: Loss | None) -> Tensor:
        try:
            value = loss(self.model, batch) if loss else _loss_of(self.forward(self.model, batch))
        except Exception as error:
            raise CalibrationError(f"calibration: batch {index} gives no loss ({first_line(error)})") from error
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise CalibrationError(
                "calibration: the model's output is no loss, and this pruner needs gradients: give "
                "loss=lambda model, batch: ..., a scalar"
            )
        return value


def _loss_of(output: Any) -> Any:
    """What libraries call the loss of an output; a dict of losses is summed."""
    if isinstance(output, Mapping) and "loss" not in output:
        return sum(leaf for key, value in output.items() if "loss" in key for leaf in tree_leaves(value))
    return output["loss"] if isinstance(output, Mapping) else getattr(output, "loss", output)
