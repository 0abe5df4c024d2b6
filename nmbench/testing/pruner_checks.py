"""The checks of a pruner, on a weight of the battery's own. The context is the class of the pruner.

Each function is one check.
"""

import torch
from torch import Tensor

from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.pruning import Columns, Pruner, Statistics
from nmbench.testing.battery import Failed, check, collected
from nmbench.testing.bench import drawn, generators

__all__ = ["PRUNER_CHECKS"]

_ROWS, _SIZE = 12, 22  # two runs of columns, which 4 and 8 do not divide


def _problem() -> tuple[Tensor, Statistics]:
    made = torch.Generator().manual_seed(5)
    inputs = torch.randn(90, 2 * _SIZE, generator=made) @ torch.randn(2 * _SIZE, 2 * _SIZE, generator=made) + 0.3
    inputs[:, 3] = 0  # an input that is never active
    stats = Statistics(sequences=3, gradient=torch.rand(_ROWS, 2 * _SIZE, generator=made))
    stats.add(inputs, frozenset({"gram"}))
    return torch.randn(_ROWS, 2 * _SIZE, generator=made), stats


@check("it is a Pruner whose needs are norm, gram or gradient, with plain defaults, and refuses other settings")
def pruner_is_declared(pruner: type[Pruner]) -> None:
    if not (isinstance(pruner, type) and issubclass(pruner, Pruner)):
        raise Failed(f"{pruner!r} is not a subclass of nmbench.sparsity.pruning.Pruner")
    if unknown := sorted(pruner.needs - {"norm", "gram", "gradient"}):
        raise Failed(f"it needs {', '.join(unknown)}, which calibration does not collect")
    if pruner().hyper != pruner.declared().defaults:
        raise Failed(f"made without settings it has {pruner().hyper}, not its defaults")
    try:
        pruner(no_such_setting=1)
    except ValueError:
        return
    raise Failed("it takes a setting that it does not declare")


@check("no group keeps more than N, short groups neither, and what the mask leaves out is zero")
def groups_are_kept(pruner: type[Pruner]) -> None:
    for text in ("2:4", "1:4", "4:8", "1:16"):
        columns = Columns(NMPattern.parse(text), _SIZE)
        weight, stats = _problem()
        pruned, mask = pruner().prune(weight, stats, columns)
        if pruned.shape != weight.shape or mask.shape != weight.shape or mask.dtype != torch.bool:
            raise Failed("it does not return a weight and a bool mask, both of the weight's shape")
        over = [start for start, end in columns.groups(2 * _SIZE) if int(mask[:, start:end].sum(1).max()) > columns.n]
        if over or pruned[~mask].any():
            raise Failed(f"the pattern {text} is broken" + (f" in the group at column {over[0]}" if over else ""))
        if not torch.isfinite(pruned).all():
            raise Failed(f"with {text} it makes a weight that is NaN or infinite")


@check("it prunes each layer by that layer's own pattern, whatever it pruned before")
def patterns_do_not_mix(pruner: type[Pruner]) -> None:
    one = pruner()
    for text in ("2:4", "1:4", "4:8", "2:4"):
        columns = Columns(NMPattern.parse(text), _SIZE)
        if not torch.equal(one.prune(*_problem(), columns)[1], pruner().prune(*_problem(), columns)[1]):
            raise Failed(f"after layers of other patterns it makes another mask of {text}")


@check("it leaves the weight and the statistics that it is given alone, and does the same again")
def nothing_is_changed(pruner: type[Pruner]) -> None:
    (weight, stats), (kept, before) = _problem(), _problem()
    columns = Columns(NMPattern(2, 4), _SIZE)
    first = pruner().prune(weight, stats, columns)[0]
    for name in ("gram", "square", "total", "gradient"):
        if not torch.equal(getattr(stats, name), getattr(before, name)):
            raise Failed(f"it changes the statistics' {name}")
    if not torch.equal(weight, kept):
        raise Failed("it changes the weight that it is given")
    if not torch.equal(first, pruner().prune(weight, stats, columns)[0]):
        raise Failed("asked again it gives another weight")


@check("it draws no random number")
def nothing_is_drawn(pruner: type[Pruner]) -> None:
    before = generators()
    pruner().prune(*_problem(), Columns(NMPattern(2, 4), _SIZE))
    if draws := drawn(before):
        raise Failed(f"it draws from the global generator of {', '.join(draws)}")


PRUNER_CHECKS = collected(globals())
