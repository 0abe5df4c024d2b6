"""One training pass: SGD with momentum, linear warm-up and cosine decay, on Lightning Fabric.

train           trains the model in place, from the last checkpoint if there is one
learning_rate   the schedule, a function of the step alone, so that a resumed run needs no scheduler state
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nmbench.run import Run
from nmbench.task import DataError
from nmbench_tasks.classification.data import EpochKeys, Examples, batches, normalised

__all__ = ["CHECKPOINT_S", "learning_rate", "train"]

#: seconds between checkpoints
CHECKPOINT_S = 60.0


def train(model: nn.Module, run: Run) -> None:
    """Train `model` in place for all epochs; it is left on the run's device.

    Raises DataError if the training images are fewer than one step takes, or one of them is unreadable.
    """
    settings = run.spec.train
    examples = Examples(run.data.path, "train", settings)
    epochs, steps = int(settings["epochs"]), _steps_per_epoch(len(examples), settings)
    fabric = _fabric(run.device, bool(settings["amp"]))
    model.to(fabric.device, memory_format=_memory_format(fabric.device))
    sgd = torch.optim.SGD(
        model.parameters(), lr=0.0, momentum=settings["momentum"], weight_decay=settings["weight_decay"]
    )
    run.bind(sgd)  # not Fabric's wrapper: that one only calls this one's step
    network, optimizer = fabric.setup(model, sgd)
    resumed = run.load_checkpoint(model, sgd) or {"epoch": 0, "step": 0}
    model.train()
    for epoch in range(resumed["epoch"], epochs):
        first = resumed["step"] if epoch == resumed["epoch"] else 0
        stream = _epoch(run, examples, epoch, first, steps, fabric.device)
        for step in range(first, steps):
            lr = learning_rate(epoch * steps + step, steps, settings)
            for group in sgd.param_groups:
                group["lr"] = lr
            loss = _accumulate(fabric, network, stream, settings)
            optimizer.step()
            optimizer.zero_grad()
            run.step(loss=loss, lr=lr, total=epochs * steps)
            if run.checkpoint_due(CHECKPOINT_S):
                run.save_checkpoint(model, sgd, epoch=epoch, step=step + 1)


def learning_rate(step: int, steps_per_epoch: int, settings: Mapping[str, Any]) -> float:
    """Rate of update `step` (from 0): linear over `warmup_epochs`, which may be a fraction, then a cosine to 0."""
    warmup = float(settings["warmup_epochs"]) * steps_per_epoch
    if step < warmup:
        return float(settings["lr"]) * min(1.0, (step + 1) / warmup)
    progress = (step - warmup) / (int(settings["epochs"]) * steps_per_epoch - warmup)
    return float(settings["lr"]) * 0.5 * (1 + math.cos(math.pi * progress))


def _steps_per_epoch(images: int, settings: Mapping[str, Any]) -> int:
    """Whole steps only: a short last batch would weigh its images more and can break batch normalisation."""
    per_step = int(settings["batch"]) * int(settings["accumulate"])
    if images < per_step:
        raise DataError(f"{images} training images are less than one step takes ({per_step}: batch x accumulate)")
    return images // per_step


def _fabric(device: str, amp: bool) -> Fabric:
    place = torch.device(device)
    cuda = place.type == "cuda"
    precision = "bf16-mixed" if amp and cuda else "32-true"
    return Fabric(accelerator=place.type, devices=[place.index or 0] if cuda else 1, precision=precision)


def _memory_format(device: torch.device) -> torch.memory_format:
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _epoch(
    run: Run, examples: Examples, epoch: int, first: int, steps: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The mini-batches of `epoch` from its step `first` on: normalised images and labels, on `device`."""
    settings = run.spec.train
    per_step = int(settings["batch"]) * int(settings["accumulate"])
    keys = EpochKeys(run, epoch, len(examples), steps * per_step, skip=first * per_step)
    for images, labels in batches(examples, keys, int(settings["batch"]), int(settings["workers"])):
        inputs = normalised(images, device).contiguous(memory_format=_memory_format(device))
        yield inputs, labels.to(device, non_blocking=True)


def _accumulate(
    fabric: Fabric, network: nn.Module, stream: Iterator[tuple[Tensor, Tensor]], settings: Mapping[str, Any]
) -> Tensor:
    """Gradient of the mean loss over the step's mini-batches; returns that loss, detached."""
    accumulate = int(settings["accumulate"])
    total = torch.zeros((), device=fabric.device)
    for _ in range(accumulate):
        images, labels = next(stream)
        logits = network(images)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=settings["label_smoothing"]) / accumulate
        fabric.backward(loss)
        total += loss.detach()
    return total
