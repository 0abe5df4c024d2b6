"""From a matrix and the installed plugins to cells, everything checked before anything starts."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nmbench._util.errors import UsageError, nearest
from nmbench._util.settings import SettingError, Settings
from nmbench.contract.distillation import DECLARED as DISTILLATION
from nmbench.plan.catalogue import Catalogue
from nmbench.plan.cell import DENSE, Cell, InitialWeights
from nmbench.plan.declarations import MethodDeclaration, MethodPlugin
from nmbench.plan.matrix import Grid, Matrix
from nmbench.plan.refusals import along_kernels, refused
from nmbench.sparsity.allocation import Allocation, Patterns, read

#: combinations that are unfolded without a word: a slip of the finger makes millions
MOST = 50_000
_MOST_RANKS = 64
_PERMUTE, _START = "permute", "start"  # nmbench.sparsity.pruning.recipe, whose import would bring torch


class _Subject(NamedTuple):
    """What is trained. settings: None where the task cannot be imported, so that nothing is known of them."""

    task: str
    model: str
    settings: Settings | None
    logits: bool = True


class _Treatment(NamedTuple):
    """How it is made sparse; the dense twin has no pattern."""

    pattern: Patterns | None
    method: str
    hyper: dict[str, Any]
    distill: dict[str, Any]


def cells(matrix: Matrix, catalogue: Catalogue, most: int | None = MOST) -> list[Cell]:
    """Every cell of the matrix, each once, dense twins included. Raises UsageError in one line.

    most: of combinations that are unfolded; None: any number.
    """
    count = sum(_count(matrix, grid) for grid in matrix.grid)
    if most is not None and count > most:
        raise UsageError(f"matrix {matrix.name} has {count:,} combinations; with --yes more than {most:,} are unfolded")
    found = _unfold(matrix, matrix.grid, catalogue)
    return sorted(found.values(), key=lambda c: (c.seed, c.task, c.model, not c.is_dense))


def _count(matrix: Matrix, grid: Grid) -> int:
    """Combinations of a grid, counted before any is made."""
    settings = [*{**matrix.train, **grid.train}.values(), *grid.hyper.values(), *grid.distill.values()]
    lists: list[list[Any]] = [
        grid.tasks or matrix.tasks,
        grid.models or [""],
        grid.seeds or matrix.seeds,
        grid.pattern,
        grid.method,
    ]
    lengths = [len(values) for values in lists] + [len(value) for value in settings if isinstance(value, list)]
    return math.prod(lengths)


def alone(matrix: Matrix, catalogue: Catalogue) -> frozenset[str]:
    """Ids of the cells that a grid with `alone = true` holds, their dense twins included."""
    return frozenset(_unfold(matrix, [grid for grid in matrix.grid if grid.alone], catalogue))


def _unfold(matrix: Matrix, grids: Iterable[Grid], catalogue: Catalogue) -> dict[str, Cell]:
    init = _init(matrix)
    found: dict[str, Cell] = {}
    for grid in grids:
        treatments = list(_treatments(grid, catalogue, init is not None))
        for subject in _subjects(matrix, grid, catalogue):
            if grid.distill and not subject.logits:
                raise UsageError(f"distill: task {subject.task!r} has no logits, so nothing can be learnt from a twin")
            trainings = list(_trainings(subject, {**matrix.train, **grid.train}))
            for train, seed in itertools.product(trainings, grid.seeds or matrix.seeds):
                twin = Cell(subject.task, subject.model, matrix.scale, None, DENSE, seed, train, {}, init)
                for pattern, method, hyper, distill in treatments:
                    found.setdefault(twin.id, twin)
                    cell = replace(twin, pattern=pattern, method=method, hyper=hyper, distill=distill)
                    found.setdefault(cell.id, cell)
    return found


def _init(matrix: Matrix) -> InitialWeights | None:
    try:
        return InitialWeights.read(Path(matrix.init)) if matrix.init is not None else None
    except (OSError, ValueError) as error:  # a name with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"init = {matrix.init!r}: {reason}") from error


def _subjects(matrix: Matrix, grid: Grid, catalogue: Catalogue) -> Iterator[_Subject]:
    for entry in grid.tasks or matrix.tasks:
        name, _, model = entry.partition("/")
        if name not in catalogue.tasks:
            raise UsageError(f"unknown task {name!r}{nearest(name, catalogue.tasks)}")
        task = catalogue.tasks[name].declaration
        if task is None:  # its cells become visible rows with the reason
            yield from (_Subject(name, known, None) for known in ([model] if model else grid.models or ["default"]))
            continue
        if matrix.scale not in task.scales:
            raise UsageError(f"task {name!r} has no scale {matrix.scale!r}{nearest(matrix.scale, task.scales)}")
        default = task.default_models.get(matrix.scale, task.models[0])
        for wanted in [model] if model else grid.models or [default]:
            if wanted not in task.models and not task.open_models:
                raise UsageError(f"task {name!r} has no model {wanted!r}{nearest(wanted, task.models)}")
            yield _Subject(name, wanted, task.scales[matrix.scale], task.logits)


def _trainings(subject: _Subject, train: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for given in _product(train):
        gpus = given.get("gpus", 1)
        if isinstance(gpus, int | float) and gpus > _MOST_RANKS:
            raise UsageError(f"gpus = {gpus}: a cell is trained by at most {_MOST_RANKS} processes")
        yield given if subject.settings is None else _overrides(subject.settings, f"task {subject.task!r}", given)


def _treatments(grid: Grid, catalogue: Catalogue, init: bool) -> Iterator[_Treatment]:
    """Combinations of pattern, method, hyper-parameters and distillation; a method that stays dense is the twin."""
    for text, name in itertools.product(grid.pattern, grid.method):
        if name not in catalogue.methods:
            raise UsageError(f"unknown method {name!r}{nearest(name, catalogue.methods)}")
        if text == DENSE or name == DENSE:
            if grid.hyper:
                raise UsageError("dense cells take no hyper-parameters: put them into a grid of their own")
            if grid.distill:
                raise UsageError("distill: dense cells have no twin to learn from: put them into a grid of their own")
            yield _Treatment(None, DENSE, {}, {})
            continue
        pattern = _pattern(text)
        declaration = _declaration(catalogue.methods[name], pattern)
        if grid.distill and declaration.prunes:
            raise UsageError(f"distill: method {name!r} prunes a trained network, so nothing learns from the twin")
        for hyper, given in itertools.product(_product(grid.hyper), list(_product(grid.distill))):
            own = _overrides(declaration.settings, f"method {name!r}", hyper)
            if own.get(_PERMUTE) and along_kernels(pattern):
                raise UsageError(f"permute: channels are reordered for patterns along the input only, not {pattern}")
            if declaration.prunes and own.get(_START) == "init" and not init:
                raise UsageError(
                    f'start = "init": {name} prunes the weights that `init` names, and the matrix names none'
                )
            yield _Treatment(pattern, name, own, _distillation(given) if grid.distill else {})


def _declaration(method: MethodPlugin, pattern: Patterns) -> MethodDeclaration:
    """That of `method`. Raises UsageError where it cannot be used, or not with `pattern`."""
    name, declaration = method.name, method.declaration
    if declaration is None:
        raise UsageError(f"method {name!r} cannot be used: {method.reason}")
    if isinstance(pattern, Allocation) and not declaration.layerwise:
        raise UsageError(f"method {name!r} takes no pattern for each layer, as {pattern} is")
    if why := refused(declaration.refusals, pattern):
        raise UsageError(f"method {name!r} cannot do {why}")
    return declaration


def _distillation(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return DISTILLATION.complete("distill", given)
    except SettingError as error:
        raise UsageError(str(error)) from error


def _pattern(text: str) -> Patterns:
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _overrides(settings: Settings, owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return settings.overrides(owner, given)
    except SettingError as error:
        raise UsageError(str(error)) from error


def _product(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that are lists."""
    lists = [[(key, v) for v in (value if isinstance(value, list) else [value])] for key, value in settings.items()]
    return (dict(combination) for combination in itertools.product(*lists))
