"""Post-training pruning of a cell: what calibrates it comes from the task's own training, whatever its engine is.

    DenseFirst   how such a cell is trained: as its dense twin
    Pruning      collects calibration, prunes; says so in the record's facts
    Permutation  reorders channels before a mask is made, by a pruner or by a method that holds its mask

Training is begun on a copy of the model, as the task does it and with the seed's own order of the data; what the model
is called with is kept, and no weight changes. So calibration is the same whether the cell trained or took its twin's
weights.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from nmbench.contract.run import Run
from nmbench.contract.spec import DataError, SkipCell, Spec
from nmbench.contract.task import Task
from nmbench.plan.cell import Cell
from nmbench.sparsity import methods, pruning
from nmbench.sparsity.allocation import Patterns
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.methods.dense import Dense
from nmbench.sparsity.permutation import PermutationReport, permute
from nmbench.sparsity.pruning import PruningReport
from nmbench.sparsity.pruning.driver import prune_lines
from nmbench.sparsity.pruning.recipe import PERMUTE, Recipe, begins_to_hold, pruner

if TYPE_CHECKING:
    from nmbench.sparsity import Handle


class DenseFirst(Dense):
    """Dense training, which may be taken from the dense twin."""

    starts_dense = True


class _Enough(BaseException):  # no engine takes it for a failure of a batch
    """All examples are there."""


class _Collection(Run):
    """A run whose optimizer steps change nothing; it ends by `_Enough` once `wanted` examples were seen.

    batches: what the model was called with, (positional, keywords). squares: name of a parameter in `gradients_of` ->
    sum over the steps of its squared gradient.
    """

    def __init__(self, run: Run, wanted: int) -> None:
        with tempfile.TemporaryDirectory() as folder:  # of no use: there are no checkpoints
            super().__init__(run.spec, run.data, None, Path(folder), rank=run.rank, ranks=run.ranks)
        self.batches: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.gradients_of: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.examples, self.wanted = 0, wanted

    def seen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model."""
        if self.examples >= self.wanted:
            raise _Enough
        kept = tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        self.batches.append(kept)
        self.examples += next((len(leaf) for leaf in tree_leaves(kept) if isinstance(leaf, Tensor) and leaf.dim()), 1)

    def bind(self, optimizer: torch.optim.Optimizer) -> None:
        """Its steps find no gradients."""
        optimizer.register_step_pre_hook(self._take)

    def _take(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for name, parameter in self.gradients_of.items():
            if parameter.grad is not None:
                self.squares[name] = parameter.grad.detach().square() + self.squares.get(name, 0)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def save_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer, **extra: Any) -> None:
        """Nothing is trained."""

    def load_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """There is none."""


class Permutation:
    """Reorders the channels of a cell's model once, if its settings say so."""

    def __init__(self, cell: Cell) -> None:
        self.wanted = bool(cell.hyper.get(PERMUTE)) and cell.pattern is not None
        self.report: PermutationReport | None = None

    def before_pass(self, method: Method, phase: int) -> bool:
        """Is it wanted, and this pass the one that begins with the mask?"""
        return self.wanted and self.report is None and begins_to_hold(method, phase)

    def apply(self, task: Task, model: nn.Module, spec: Spec, pattern: Patterns, layers: list[str]) -> None:
        """By the task's example inputs, which are drawn without touching the random streams."""
        with torch.random.fork_rng(devices=[]):
            given = task.example_inputs(spec)
        inputs = tree_map(lambda leaf: leaf.to(spec.device) if isinstance(leaf, Tensor) else leaf, given)
        self.report = permute(model, pattern, inputs, layers)

    def of_attached(self, task: Task, model: nn.Module, spec: Spec, handle: Handle) -> None:
        """While the handle is on the model: its masks follow, and that they moved counts for no flip."""
        self.apply(task, model, spec, handle.pattern, [line.name for line in handle.layers if line.sparse])
        handle.sad.snapshots.clear()  # they have the channels in another order
        handle.forget()

    def told(self, run: Run) -> None:
        """The record says how many layers it was. Raises SkipCell where no pass of the method begins with a mask."""
        if not self.wanted:
            return
        if self.report is None:
            raise SkipCell("permute: this method makes its mask in the middle of training, where channels must stay")
        run.store_fact("permuted layers", len(self.report.permuted))


class Pruning:
    """What a pruner does in a cell."""

    def __init__(self, cell: Cell) -> None:
        self.recipe = Recipe.of(cell.hyper)
        self.pruner = pruner(cell.method, cell.hyper)
        if self.recipe.start == "init" and cell.init is None:
            raise SkipCell('start = "init" prunes the weights that the matrix names, and it names no init')
        self._collected: _Collection | None = None

    @classmethod
    def of(cls, cell: Cell) -> Pruning | None:
        """None where the cell's method trains."""
        trains = cell.pattern is None or cell.method in methods.names()
        return cls(cell) if not trains and cell.method in pruning.names() else None

    @property
    def trains(self) -> bool:
        """Is there a training, or are `init`'s weights pruned as they are?"""
        return self.recipe.start == "twin"

    def collect(self, task: Task, model: nn.Module, run: Run, handle: Handle) -> None:
        """After training, on every rank: collect what calibrates. The model stays as it is.

        Raises DataError if the task's training never calls the model.
        """
        collected = self._collected = _Collection(run, self.recipe.examples)
        trained = copy.deepcopy(model)
        if "gradient" in self.pruner.needs:
            names = {line.name for line in handle.layers if line.sparse}
            collected.gradients_of = {name: p for name, p in trained.named_parameters() if name in names}
        trained.register_forward_pre_hook(collected.seen, with_kwargs=True)
        with contextlib.suppress(_Enough):
            task.train(trained, collected)
        collected.gradients_of.clear()
        run.reseed()
        if not collected.batches:
            raise DataError("the task's training never calls the model itself, so nothing calibrates the pruner")

    def prune(self, model: nn.Module, handle: Handle, run: Run) -> PruningReport:
        """Prune the finalised model. The lines of `handle` say what was left dense, and why."""
        assert self._collected is not None
        taken = self._collected
        report = prune_lines(
            model,
            handle.pattern,
            self.pruner,
            handle.layers,
            taken.batches,
            forward=lambda model, batch: model(*batch[0], **batch[1]),
            gradients={name: square.sqrt() for name, square in taken.squares.items()},
        )
        handle.layers = list(report.lines)
        run.store_fact("calibration examples", taken.examples)
        run.store_fact("calibration source", "the first training batches of the seed, as training is given them")
        if report.error is not None:
            run.store_fact("mean error of the layers", report.error)
        self._collected = None
        return report
