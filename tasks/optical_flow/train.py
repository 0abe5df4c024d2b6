"""One training pass: the stages one after the other, each with a fresh AdamW and one cycle of the learning rate.

train           trains the model in place, from the last checkpoint if there is one
learning_rate   the cycle, a function of the step alone, so that a resumed run needs no scheduler state
freeze          which layers keep their statistics in a stage
"""

from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nmbench.task import Run
from nmbench_tasks._shared.fabric import fabric, remaining, set_rate, stepped
from nmbench_tasks.optical_flow import plan
from nmbench_tasks.optical_flow.data import Augmented, Keys, batches
from nmbench_tasks.optical_flow.metrics import sequence_loss
from nmbench_tasks.optical_flow.prepare import parts_of_stage
from nmbench_tasks.optical_flow.scales import Settings, Stage
from nmbench_tasks.optical_flow.sets import Pair

_MORE = 100  # RAFT's authors stop so many steps before the end of the cycle
_START, _END = 1 / 25, 1 / 250_000  # of the peak, as torch's OneCycleLR has them by default


def train(model: nn.Module, run: Run) -> None:
    """Train `model` in place through all stages, on the run's device. Raises DataError for unreadable data."""
    settings = Settings.of(run.spec)
    stages = plan.stages(settings)
    total = sum(stage.steps for stage in stages)
    engine = fabric(run.device, settings.amp)
    model.to(engine.device)
    network = engine.setup_module(model)
    adamw = _adamw(model, stages[0])
    for number, first in remaining(run, model, adamw, len(stages)):
        if first == 0:
            adamw = _adamw(model, stages[number])
        run.bind(adamw)  # not Fabric's wrapper: that one only calls this one's step
        optimizer = engine.setup_optimizers(adamw)
        freeze(model, settings.freeze_bn and number > 0)
        stream = _batches(run, number, stages[number], first, engine.device)
        for step, batch in enumerate(stream, start=first):
            set_rate(adamw, learning_rate(step, stages[number], settings))
            loss = _step(engine, network, optimizer, batch, settings)
            stepped(run, model, adamw, loss, (number, step), total)


def learning_rate(step: int, stage: Stage, settings: Settings) -> float:
    """Rate of update `step` (from 0): up to the peak over a share `warmup` of the steps, then linearly to almost 0."""
    if settings.schedule == "authors":
        whole, done = stage.steps + _MORE, step
        turn = settings.warmup * whole - 1
        fall = whole - 1 - turn
    else:
        turn, done = settings.warmup * stage.steps, step + 1
        fall = stage.steps - turn
    if step < turn:
        return stage.lr * (_START + (1 - _START) * done / max(1.0, turn))
    return stage.lr * (1 - (1 - _END) * (step - turn) / max(1.0, fall))


def freeze(model: nn.Module, frozen: bool) -> None:
    """Training mode, but for batch normalisation if `frozen`: it then keeps its statistics, as RAFT's authors do."""
    model.train()
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _adamw(model: nn.Module, stage: Stage) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=stage.lr, weight_decay=stage.weight_decay, eps=1e-8)


def _batches(run: Run, number: int, stage: Stage, first: int, device: torch.device) -> Iterator[Pair]:
    """The batches of a stage from its step `first` on."""
    settings = Settings.of(run.spec)
    parts = parts_of_stage(stage, settings, run.data.path)
    pairs = Augmented(parts, stage, settings.augment)
    keys = Keys(run, number, len(pairs), stage.steps * stage.batch, skip=first * stage.batch)
    return batches(pairs, keys, stage.batch, settings.workers, device)


def _step(engine: Fabric, network: nn.Module, optimizer: Any, batch: Pair, settings: Settings) -> Tensor:
    """One optimizer step; returns the loss, detached. The gradient is clipped first, a method's term comes after."""
    optimizer.zero_grad()
    estimates = network(batch.first, batch.second, num_flow_updates=settings.updates)
    loss = sequence_loss(estimates, batch.flow, batch.valid, settings.gamma, settings.max_flow)
    engine.backward(loss)
    # not an error here: run.step says that the loss is not finite, the core that a weight is not
    engine.clip_gradients(network, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
    optimizer.step()
    return loss.detach()
