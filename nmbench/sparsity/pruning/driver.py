"""`prune`: a trained model to an N:M pattern, from a little data and without training."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity.allocation import Patterns, PatternsLike, read
from nmbench.sparsity.attach import is_attached
from nmbench.sparsity.audits import audit
from nmbench.sparsity.entry import NothingSparseError
from nmbench.sparsity.permutation import PermutationReport, permute_model
from nmbench.sparsity.products import ordinary_forward
from nmbench.sparsity.pruning import registry
from nmbench.sparsity.pruning.base import Pruner, Statistics
from nmbench.sparsity.pruning.calibration import Calibration, CalibrationError, Forward, Loss
from nmbench.sparsity.pruning.capture import Layer
from nmbench.sparsity.pruning.hessian import relative_error
from nmbench.sparsity.pruning.layout import computed, layout
from nmbench.sparsity.pruning.report import LayerReport, PruningReport
from nmbench.sparsity.pruning.stages import Schedule, find_blocks, given_blocks
from nmbench.sparsity.select import LayerInfo, Layers, choose, default_candidates, find_weights, require_numbers

_INPUTS = frozenset({"norm", "gram"})


def prune(
    model: nn.Module,
    pattern: PatternsLike,
    pruner: str | Pruner = "wanda",
    calibration: Iterable[Any] | Tensor | None = None,
    *,
    layers: Layers = None,
    blocks: Iterable[nn.Module | str] | None = None,
    forward: Forward | None = None,
    loss: Loss | None = None,
    permute: bool = False,
    error: bool = True,
    **settings: Any,
) -> PruningReport:
    """Prune a trained model in place, block by block, each with the inputs that the pruned blocks before it give.

    Args:
        model: any module, trained; it stays in the mode it is in.
        pattern: as `sparsify` takes it, one for each layer included; N is what is kept.
        pruner: "magnitude", "wanda", "ria", "sparsegpt", "admm", "alps", "nowag-p", "pruner-zero", "dsnot", or any
            other installed in `nmbench.pruners`; or a Pruner.
        calibration: some batches of training data, a hundred examples or so. A tensor is the model's input, a mapping
            its keywords, a list or tuple its positional inputs. Only a pruner that looks at weights alone needs none.
        layers: which weights, as `sparsify` takes it. None: all but those of the last linear layer.
        blocks: modules, or their names, that are pruned one after the other. None: the members of lists and sequences
            of like modules; what is in none of them is pruned layer by layer, in the order of execution.
        forward: (model, batch), how a batch is given to the model where that is not as said above.
        loss: (model, batch) -> scalar, for pruners that need gradients. None: the `loss` of the model's output.
        permute: first reorder channels so that more is kept (nmbench.sparsity.permutation).
        error: measure what each layer's output loses, which costs a product of its inputs with themselves.
        settings: of the pruner, for instance damp=0.05 for "sparsegpt".

    Returns:
        A PruningReport: each candidate, pruned or why not, and the audit.

    Raises:
        CalibrationError (a ValueError): the data are missing or empty, not finite, or do not fit the model.
        ValueError: bad pattern, pruner, setting, layer or block; the model is attached or packed; no weight takes the
            pattern. Where it comes after calibration began, blocks before it are pruned already.
    """
    parsed = read(pattern)
    chosen = registry.load(pruner)(**settings) if isinstance(pruner, str) else pruner
    if not isinstance(chosen, Pruner):
        raise ValueError(f"pruner: the name of one, or a Pruner, is wanted, not {pruner!r:.60}")
    if is_attached(model):
        raise ValueError("this model is being made sparse: finalize() its handle before it is pruned")
    weights = find_weights(model)
    require_numbers(weights)
    lines = choose(weights, parsed, default_candidates(model) if layers is None else layers)
    return prune_lines(model, parsed, chosen, lines, calibration, blocks, forward, loss, permute, error)


def prune_lines(
    model: nn.Module,
    pattern: Patterns,
    pruner: Pruner,
    lines: Sequence[LayerInfo],
    data: Iterable[Any] | Tensor | None,
    blocks: Iterable[nn.Module | str] | None = None,
    forward: Forward | None = None,
    loss: Loss | None = None,
    permute: bool = False,
    error: bool = True,
    gradients: Mapping[str, Tensor] | None = None,
) -> PruningReport:
    """`prune`, of the sparse ones among `lines`. gradients: by the name of the weight, where they were taken before."""
    if data is None and (pruner.needs or permute):
        what = "the permutation of channels" if not pruner.needs else f"pruner {pruner.name!r}"
        raise CalibrationError(f"{what} needs calibration data: some batches of what the model was trained on")
    calibration = None if data is None else Calibration.checked(model, data, forward)
    chosen, left = _layers(model, lines, pattern)
    parts = find_blocks(model, chosen) if blocks is None else given_blocks(model, blocks)
    done: dict[str, LayerReport] = {}
    with ordinary_forward(model), _without_cache(model):
        permuted = _permuted(model, pattern, chosen, calibration) if permute and calibration else None
        gradients = _gradients(pruner, chosen, calibration, loss) if gradients is None else gradients
        for stage in _stages(calibration, chosen, parts, pruner.needs | ({"gram"} if error else set())):
            for layer in stage:
                sequences = calibration.sequences if calibration else 0
                done[layer.info.name] = _prune_layer(layer, pruner, sequences, gradients.get(layer.info.name))
    _warn_of_singular(pruner, done.values())
    return _report(model, pattern, pruner, lines, left, done, calibration, permuted)


def _layers(model: nn.Module, lines: Iterable[LayerInfo], pattern: Patterns) -> tuple[list[Layer], dict[str, str]]:
    """The layers of the sparse lines; name -> why of the rest. Raises NothingSparseError if there is none."""
    homes = {weight.name: weight for weight in find_weights(model)}
    layers: list[Layer] = []
    left: dict[str, str] = {}
    for info in lines:
        (module, _), *_ = homes[info.name].uses
        read = layout(info, module, info.own(pattern)) if info.sparse else info.reason
        if isinstance(read, str):
            left[info.name] = read
        else:
            layers.append(Layer(info, module, homes[info.name].parameter, read))
    if not layers:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise NothingSparseError(f"no weight takes {pattern}. {reasons}")
    return layers, left


def _stages(
    calibration: Calibration | None, layers: list[Layer], blocks: list[nn.Module], needs: frozenset[str]
) -> Iterator[list[Layer]]:
    """Layers that are pruned together, in order; last those that calibration never meets."""
    met: set[Layer] = set()
    for stage in Schedule(calibration, layers, blocks, needs) if calibration and needs else ():
        met.update(stage)
        yield stage
    yield [layer for layer in layers if layer not in met]


def _gradients(
    pruner: Pruner, layers: list[Layer], calibration: Calibration | None, loss: Loss | None
) -> dict[str, Tensor]:
    if "gradient" not in pruner.needs or calibration is None:
        return {}
    with torch.enable_grad():
        return calibration.gradients({layer.info.name: layer.parameter for layer in layers}, loss)


def _prune_layer(layer: Layer, pruner: Pruner, sequences: int, gradient: Tensor | None) -> LayerReport:
    """Prune the weight of `layer`, or say why not; its statistics are dropped."""
    info, gap = layer.info, layer.gap()
    reason = gap if pruner.needs & _INPUTS else ""
    if "gradient" in pruner.needs and (gradient is None or not gradient.any()):
        reason = reason or "no gradient reaches it on the calibration data"
    if gap or reason:
        layer.statistics.clear()
    if reason:
        return LayerReport(info.name, info.shape, reason)
    if gap:  # of no matter to this pruner
        layer.of_rows(0, layer.rows)
    layer.settle(sequences, gradient)
    if not layer.finite():
        raise CalibrationError(f"{info.name}: what the calibration data give it holds NaN or infinity")
    error, damp = _prune_matrices(layer, pruner)
    layer.statistics.clear()
    density = int(torch.count_nonzero(layer.parameter)) / max(1, layer.parameter.numel())
    return LayerReport(info.name, info.shape, "", density, error, damp)


def _prune_matrices(layer: Layer, pruner: Pruner) -> tuple[float | None, float | None]:
    """The share of the output that is lost, where that can be told, and the damping of a singular Hessian."""
    before = layer.layout.read(computed(layer.parameter))
    after, lost, whole = before.clone(), 0.0, 0.0
    every: list[Statistics] = []
    for (start, end), parts in layer.statistics.items():
        for i, stats in enumerate(parts):
            part = before[i, start:end]
            after[i, start:end] = _one(pruner, layer, part, stats)
            if stats.gram is not None:
                errors = relative_error(part, after[i, start:end], stats.gram)
                lost, whole = lost + errors[0], whole + errors[1]
            every.append(stats)
    with torch.no_grad():
        layer.parameter.copy_(layer.layout.write(after))
    measured = all(stats.gram is not None for stats in every)
    damp = max((stats.damp for stats in every if stats.damp is not None), default=None)
    return (lost / whole if whole else 0.0) if measured else None, damp


def _one(pruner: Pruner, layer: Layer, weight: Tensor, stats: Statistics) -> Tensor:
    name = layer.info.name
    try:
        pruned, mask = pruner.prune(weight, stats, layer.layout.columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not torch.isfinite(pruned).all():
        raise ValueError(f"{name}: pruner {pruner.name!r} made a weight that is NaN or infinite")
    return torch.where(mask, pruned, 0)


def _permuted(model: nn.Module, pattern: Patterns, layers: list[Layer], calibration: Calibration) -> PermutationReport:
    return permute_model(model, pattern, [layer.info for layer in layers], lambda: calibration.run(0))


@contextlib.contextmanager
def _without_cache(model: nn.Module) -> Iterator[None]:
    """transformers' models keep keys and values from call to call unless told not to."""
    config: Any = getattr(model, "config", None)
    kept = getattr(config, "use_cache", None)
    if kept:
        config.use_cache = False
    try:
        yield
    finally:
        if kept:
            config.use_cache = kept


def _warn_of_singular(pruner: Pruner, layers: Iterable[LayerReport]) -> None:
    """Once, for all layers."""
    if damped := [layer for layer in layers if layer.damp is not None]:
        more = f" and {len(damped) - 1} more" * (len(damped) > 1)
        warnings.warn(
            f"{pruner.name}: the Hessian of {damped[0].name}{more} is singular, so it was damped by "
            f"{max(layer.damp or 0 for layer in damped):g} of its mean; more calibration data may help",
            stacklevel=4,
        )


def _report(
    model: nn.Module,
    pattern: Patterns,
    pruner: Pruner,
    lines: Sequence[LayerInfo],
    left: Mapping[str, str],
    done: Mapping[str, LayerReport],
    calibration: Calibration | None,
    permuted: PermutationReport | None,
) -> PruningReport:
    reasons = {**left, **{name: layer.reason for name, layer in done.items() if layer.reason}}
    told = [
        dataclasses.replace(i, role="dense", reason=reasons[i.name]) if i.sparse and i.name in reasons else i
        for i in lines
    ]
    layers = tuple(done.get(i.name) or LayerReport(i.name, i.shape, reasons[i.name]) for i in lines)
    audited = audit(model, pattern, told)
    sequences = calibration.sequences if calibration else 0
    return PruningReport(pattern, pruner.name, sequences, layers, tuple(told), audited, permuted)
