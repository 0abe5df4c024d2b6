"""What a trained model and its handle say, as sections of a record (see nmbench.records.schema)."""

from __future__ import annotations

import copy
import itertools
import math
import resource
import statistics
import sys
from typing import TYPE_CHECKING

from nmbench.contract.run import InvalidResult, Run, finite
from nmbench.contract.spec import Spec
from nmbench.contract.task import Task
from nmbench.plan.cell import Cell
from nmbench.records.schema import Audit, Cost, Curve, LayerAudit, LayerFlips, Memory, Sad, Snapshots

if TYPE_CHECKING:
    from torch import nn

    from nmbench.sparsity import AuditReport, Handle, LayerInfo
    from nmbench.sparsity.flips import SAD

_MOST = 512  # entries of a curve in a record, which is to stay small
_MOST_OF_A_LAYER = 32


def _bins(count: int, most: int = _MOST) -> list[range]:
    width = max(1, -(-count // most))
    return [range(start, min(start + width, count)) for start in range(0, count, width)]


def curve(runs: list[Run]) -> Curve:
    """Mean loss and last learning rate of each bin of optimizer steps, phase by phase."""
    phases: list[int] = []
    steps: list[int] = []
    losses: list[float | None] = []
    lrs: list[float | None] = []
    for run in runs:
        for block in _bins(len(run.curve), _MOST // len(runs)):
            lr = run.curve[block[-1]][1]
            phases.append(run.phase)
            steps.append(block[-1] + 1)
            losses.append(round(statistics.fmean(run.curve[i][0] for i in block), 6))
            lrs.append(lr if math.isfinite(lr) else None)
    return Curve(phase=phases, step=steps, loss=losses, lr=lrs)


def sad(handle: Handle) -> Sad:
    """Flips by layer and by bin of steps; SAD of consecutive snapshots and of the first and the last."""
    counted = handle.sad
    history = counted.history
    blocks = _bins(len(history))
    steps = sorted(counted.snapshots)
    return Sad(
        pattern=str(handle.pattern),
        weights=counted.weights,
        total=counted.total,
        per_layer=counted.per_layer,
        uncounted=counted.uncounted,
        layers=_by_layer(counted),
        step=[block[-1] + 1 for block in blocks],
        flips=[sum(history[i] for i in block) for block in blocks],
        snapshots=Snapshots(
            steps=steps,
            consecutive=[counted.between(i, j) for i, j in itertools.pairwise(steps)],
            first_last=counted.between(steps[0], steps[-1]) if steps else 0,
        ),
    )


def _by_layer(counted: SAD) -> LayerFlips:
    """Flips of each layer, summed over the steps since the previous entry."""
    table = counted.table
    blocks = _bins(len(table), _MOST_OF_A_LAYER)
    flips = {
        name: [int(table[block.start : block.stop, i].sum()) for block in blocks]
        for i, name in enumerate(counted.names)
    }
    return LayerFlips(step=[block[-1] + 1 for block in blocks], flips=flips)


def memory(device: str) -> Memory:
    """Largest resident memory of this process so far, and on a GPU the most that torch held; bytes."""
    import torch

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB
    peak = resident if sys.platform == "darwin" else resident * 1024
    gpu = int(torch.cuda.max_memory_allocated()) if device.startswith("cuda") else None
    return Memory(peak_rss_bytes=peak, peak_gpu_bytes=gpu)


def operands(task: Task, model: nn.Module, handle: Handle, spec: Spec) -> list[LayerInfo]:
    """`handle.layers` of the finalised model, after one pass over the example inputs: what is sparse and multiplies so.

    The model, its mode, its device and the random generators stay as they are.
    """
    import torch

    from nmbench.sparsity.audits import multiplied

    there = model if spec.device == "cpu" else copy.deepcopy(model).to("cpu")
    with torch.random.fork_rng(devices=[]):
        return multiplied(there, task.example_inputs(spec), handle.layers)


def audit(report: AuditReport, cell: Cell) -> Audit:
    """Density and violations of each candidate weight, as a record has them."""
    dense = cell.is_dense
    layers = [
        LayerAudit(
            name=layer.name,
            shape=list(layer.shape),
            role="dense" if dense else layer.role,
            reason="dense training" if dense and layer.role == "sparse" else layer.reason,
            density=round(layer.density, 6),
            violations=0 if dense else layer.violations,
            pattern=str(layer.pattern) if layer.pattern and not dense else None,
        )
        for layer in report.layers
    ]
    return Audit(
        pattern=None if dense else str(cell.pattern),
        ok=dense or report.ok,
        density=round(report.density, 6),
        weights=report.weights,
        nonzeros=report.nonzeros,
        layers=layers,
    )


def costs(task: Task, model: nn.Module, handle: Handle, spec: Spec, cell: Cell) -> Cost:
    """Cost of the finalised model for one example."""
    from nmbench.sparsity import cost

    pattern, layers = (None, ()) if cell.is_dense else (handle.pattern, handle.layers)
    counted = cost(model.to("cpu"), task.example_inputs(spec), pattern, layers)
    return Cost(
        parameters=counted.parameters,
        nonzeros=counted.nonzeros,
        macs_dense=counted.macs_dense,
        macs_effective=counted.macs_effective,
        bytes_dense=counted.bytes_dense,
        bytes_compressed=counted.bytes_compressed,
        training_passes=handle.method.phases + bool(cell.distill and not handle.method.starts_dense),
    )


def metrics(task: Task, values: object) -> dict[str, float]:
    """The declared metrics out of what `evaluate` returned. Raises InvalidResult if one is missing or not finite."""
    if not isinstance(values, dict):
        raise InvalidResult(f"evaluate() returned {type(values).__name__}, not a dict")
    out = {}
    for metric in task.metrics:
        value = values.get(metric.name)
        if value is None:
            raise InvalidResult(f"evaluate() did not return the declared metric {metric.name!r}")
        out[metric.name] = finite(value, f"the metric {metric.name!r}")
    return out
