"""One training pass: SGD with momentum, linear warm-up and cosine decay, on Lightning Fabric.

train           trains the model in place, from the last checkpoint if there is one
learning_rate   the schedule, a function of the step alone, so that a resumed run needs no scheduler state
"""

import math
from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nmbench.task import DataError, Run
from nmbench_tasks._shared.fabric import fabric, remaining, set_rate, stepped
from nmbench_tasks.classification.data import EpochKeys, Examples, batches, normalised
from nmbench_tasks.classification.scales import Settings


def train(model: nn.Module, run: Run) -> None:
    """Train `model` in place for all epochs; it is left on the run's device.

    Raises DataError if the training images are fewer than one step takes, or one of them is unreadable.
    """
    settings = Settings.of(run.spec)
    examples = Examples(run.data.path, "train", settings)
    steps = _steps_per_epoch(len(examples), settings)
    engine = fabric(run.device, settings.amp)
    model.to(engine.device).to(memory_format=_memory_format(engine.device))
    sgd = torch.optim.SGD(model.parameters(), lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    run.bind(sgd)  # not Fabric's wrapper: that one only calls this one's step
    network, optimizer = engine.setup(model, sgd)
    model.train()
    for epoch, first in remaining(run, model, sgd, settings.epochs):
        stream = _epoch(run, examples, epoch, first, steps, engine.device)
        for step in range(first, steps):
            set_rate(sgd, learning_rate(epoch * steps + step, steps, settings))
            loss = _accumulate(run, engine, network, stream, settings)
            optimizer.step()
            optimizer.zero_grad()
            stepped(run, model, sgd, loss, (epoch, step), settings.epochs * steps)


def learning_rate(step: int, steps_per_epoch: int, settings: Settings) -> float:
    """Rate of update `step` (from 0): linear over `warmup_epochs`, which may be a fraction, then a cosine to 0."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        risen = step if settings.schedule == "authors" else step + 1
        return settings.lr * min(1.0, risen / warmup)
    progress = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))


def _steps_per_epoch(images: int, settings: Settings) -> int:
    """Whole steps only: a short last batch would weigh its images more and can break batch normalisation."""
    per_step = settings.batch * settings.accumulate
    if images < per_step:
        raise DataError(f"{images} training images are less than one step takes ({per_step}: batch x accumulate)")
    return images // per_step


def _memory_format(device: torch.device) -> torch.memory_format:
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _epoch(
    run: Run, examples: Examples, epoch: int, first: int, steps: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The mini-batches of `epoch` from its step `first` on: normalised images and labels, on `device`."""
    settings = Settings.of(run.spec)
    per_step = settings.batch * settings.accumulate
    keys = EpochKeys(run, epoch, len(examples), steps * per_step, skip=first * per_step)
    for images, labels in batches(examples, keys, settings.batch, settings.workers):
        inputs = normalised(images, device).contiguous(memory_format=_memory_format(device))
        yield inputs, labels.to(device, non_blocking=True)


def _accumulate(
    run: Run, engine: Fabric, network: nn.Module, stream: Iterator[tuple[Tensor, Tensor]], settings: Settings
) -> Tensor:
    """Gradient of the mean loss over the step's mini-batches; returns that loss, detached."""
    total = torch.zeros((), device=engine.device)
    for _ in range(settings.accumulate):
        images, labels = next(stream)
        loss = nn.functional.cross_entropy(network(images), labels, label_smoothing=settings.label_smoothing)
        loss = run.distilled(loss) / settings.accumulate
        engine.backward(loss)
        total += loss.detach()
    return total
