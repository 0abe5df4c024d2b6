"""In what order the layers of a model are calibrated and pruned: block by block, else layer by layer.

The inputs of a layer are those that it gets once everything before it is pruned, and its own block still dense. Blocks
that are called one with what the other gave are run by themselves, each twice; anything else by the whole model again,
which gives the same numbers and takes longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nmbench.sparsity.pruning.calibration import Calibration, Stop
from nmbench.sparsity.pruning.capture import Layer, Watch


@dataclass
class Stage:
    """Layers that are calibrated together, and the block that holds them (None: a layer by itself)."""

    block: nn.Module | None
    layers: list[Layer] = field(default_factory=list)


@dataclass
class _Call:
    """One call of a block on the first batch."""

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    version: int
    output: Any = None
    altered: bool = False  # was its input changed in place?

    @property
    def beside(self) -> set[int]:
        """Tensors that it is given beside its first input."""
        return {id(leaf) for leaf in tree_leaves((self.args[1:], self.kwargs)) if isinstance(leaf, Tensor)}


def find_blocks(module: nn.Module, layers: Iterable[Layer]) -> list[nn.Module]:
    """Members of the outermost lists and sequences of modules of one class, two or more, that hold some of `layers`."""
    homes = {id(layer.module) for layer in layers}

    def found(module: nn.Module) -> list[nn.Module]:
        members = list(module.children())
        alike = isinstance(module, nn.ModuleList | nn.Sequential) and len({type(m) for m in members}) == 1
        if alike and len(members) > 1 and all(_holds(m, homes) for m in members):
            return members
        return [block for member in members for block in found(member)]

    return found(module)


def _holds(block: nn.Module, homes: set[int]) -> bool:
    """Has it one of the layers, and is it more than that layer?"""
    return id(block) not in homes and any(id(m) in homes for m in block.modules())


def given_blocks(model: nn.Module, blocks: Iterable[nn.Module | str]) -> list[nn.Module]:
    """The caller's blocks, modules or names of modules. Raises ValueError for one that the model has not."""
    known = dict(model.named_modules())
    ids = {id(module) for module in known.values()}
    found = []
    for block in blocks:
        module = known.get(block) if isinstance(block, str) else block
        if module is None or id(module) not in ids:
            raise ValueError(f"blocks: {block if isinstance(block, str) else type(block).__name__!r} is no part of it")
        found.append(module)
    return found


class Schedule:
    """Collects the statistics of `layers` stage by stage.

    Made by one forward pass of the first batch, which raises CalibrationError if that does not fit the model.
    """

    def __init__(
        self, calibration: Calibration, layers: Sequence[Layer], blocks: Sequence[nn.Module], needs: frozenset[str]
    ) -> None:
        self._calibration, self._needs = calibration, needs
        calls: list[_Call] = []
        with Watch(layers, frozenset()) as watch, _Hooks() as hooks:
            for block in blocks:
                hooks.around(block, lambda call: calls.append(call))
            calibration.run(0)
        self._uses = watch.uses
        for layer in layers:
            layer.statistics.clear()
        self.chains = list(_chains(_stages(watch.uses, blocks), calls))

    def __iter__(self) -> Iterator[list[Layer]]:
        """The layers of each stage, calibrated. They are to be pruned before the next is asked for."""
        for chain in self.chains:
            yield from self._onward(chain) if len(chain) > 1 else self._again(chain[0])

    def _again(self, stage: Stage) -> Iterator[list[Layer]]:
        """By forward passes of the model, as far as the stage."""
        enough = {layer: self._uses[layer] for layer in stage.layers}
        for index in range(len(self._calibration.batches)):
            with Watch(stage.layers, self._needs, enough):
                self._calibration.run(index)
        yield stage.layers

    def _onward(self, chain: list[Stage]) -> Iterator[list[Layer]]:
        """By calls of each block with what the pruned block before it gave."""
        hidden, beside = self._entered(chain)
        for number, stage in enumerate(chain):
            assert stage.block is not None
            with Watch(stage.layers, self._needs):
                for x, more in zip(hidden, beside, strict=True):
                    stage.block(x, *more[number][0], **more[number][1])
            yield stage.layers
            if stage is not chain[-1]:
                for i, more in enumerate(beside):
                    hidden[i] = _first(stage.block(hidden[i], *more[number][0], **more[number][1]))

    def _entered(self, chain: list[Stage]) -> tuple[list[Tensor], list[list[Any]]]:
        """Of each batch: what the first block is given, and what each of them is given beside that."""
        hidden: list[Tensor] = []
        beside: list[list[Any]] = []

        def entered(module: nn.Module, args: Any, kwargs: Any) -> None:
            if module is chain[0].block:
                hidden.append(args[0])
                beside.append([])
            beside[-1].append((args[1:], kwargs))
            if module is chain[-1].block:
                raise Stop

        with _Hooks() as hooks:
            for stage in chain:
                assert stage.block is not None
                hooks.handles.append(stage.block.register_forward_pre_hook(entered, with_kwargs=True))
            for index in range(len(self._calibration.batches)):
                self._calibration.run(index)
        return hidden, beside


class _Hooks:
    """Hooks that are gone when it ends."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def __enter__(self) -> _Hooks:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def around(self, block: nn.Module, told: Any) -> None:
        """Tell of each call of `block` when it begins, and complete what was told when it ends."""
        open_calls: list[_Call] = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = _Call(module, args, kwargs, _version(args))
            open_calls.append(call)
            told(call)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            call = open_calls.pop()
            call.output, call.altered = output, call.version != _version(args)

        self.handles += [
            block.register_forward_pre_hook(before, with_kwargs=True),
            block.register_forward_hook(after),
        ]


def _version(args: tuple[Any, ...]) -> int:
    return args[0]._version if args and isinstance(args[0], Tensor) and not args[0].is_inference() else -1


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, list | tuple) and output else output


def _stages(uses: Iterable[Layer], blocks: Sequence[nn.Module]) -> list[Stage]:
    """Blocks and single layers in the order of their first product."""
    home = {id(module): block for block in reversed(blocks) for module in block.modules()}
    stages: dict[int, Stage] = {}
    for layer in uses:
        block = home.get(id(layer.module))
        stages.setdefault(id(block or layer), Stage(block)).layers.append(layer)
    return list(stages.values())


def _chains(stages: Iterable[Stage], calls: Sequence[_Call]) -> Iterator[list[Stage]]:
    """Runs of blocks that follow one from the other; a stage alone where that is not so."""
    once = {id(call.block): call for call in calls if sum(other.block is call.block for other in calls) == 1}
    chain: list[Stage] = []
    for stage in stages:
        if chain and not _follows(once, chain, stage):
            yield chain
            chain = []
        chain.append(stage)
    if chain:
        yield chain


def _follows(calls: dict[int, _Call], chain: list[Stage], stage: Stage) -> bool:
    first, last, this = (calls.get(id(one.block)) for one in (chain[0], chain[-1], stage))
    if first is None or last is None or this is None or not this.args:
        return False
    alone = not any(call.altered or not isinstance(call.args[0], torch.Tensor) for call in (first, last, this))
    return alone and this.args[0] is _first(last.output) and this.beside <= first.beside
