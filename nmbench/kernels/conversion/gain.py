"""A converted model's time as a whole, held against that of the dense one, on the example inputs.

Layers that each win need not win together: what lies between them, and what their calls cost, is in no layer's time.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from nmbench._util.errors import first_line
from nmbench.kernels.conversion.choose import Trial
from nmbench.kernels.conversion.prepare import finish
from nmbench.kernels.conversion.swap import replica
from nmbench.kernels.conversion.watch import Arguments

#: the converted model must take at most this part of the dense one's time
NOT_SLOWER = 1.0


@dataclass(frozen=True)
class Gain:
    """dense_us, sparse_us: microseconds of one pass, None where it could not be timed; untold: why not."""

    dense_us: float | None = None
    sparse_us: float | None = None
    untold: str = ""

    @property
    def lost(self) -> bool:
        """Is the converted model slower?"""
        return bool(self.dense_us and self.sparse_us and self.sparse_us > NOT_SLOWER * self.dense_us)

    @property
    def words(self) -> str:
        """One line."""
        if self.dense_us is None or self.sparse_us is None:
            return f"it could not be timed as a whole: {self.untold}"
        about = f"{self.sparse_us / 1e3:.4g} ms with sparse layers, {self.dense_us / 1e3:.4g} ms without"
        return f"as a whole it would be slower: {about}" if self.lost else f"as a whole it takes {about}"


def gain(
    model: nn.Module,
    sparse: Mapping[nn.Module, nn.Module],
    others: Mapping[nn.Module, nn.Module],
    given: Arguments,
    trial: Trial,
    dense: nn.Module | None = None,
) -> Gain:
    """The time of `model`, as prepared, with `sparse` and `others` in place, against the best without `sparse`.

    dense: the model as it was given, where there still is one. Nothing is changed; parameters are shared.
    """
    own = given.own()
    with torch.inference_mode(False), torch.no_grad():
        try:
            made = {"prepared": replica(model, others), "sparse": replica(model, {**others, **sparse})}
            for one in made.values():
                finish(one, 0)
            made |= {} if dense is None else {"given": replica(dense, {})}
            calls = {name: [functools.partial(own.give, one.eval())] for name, one in made.items()}
            times = trial.times(calls, torch.device("cpu"))
        except Exception as error:  # whatever it is, the model works by itself
            return Gain(untold=first_line(error))
    fast = times.pop("sparse")
    return Gain(min(times.values()), fast)
