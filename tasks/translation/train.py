"""One training pass: fairseq's criterion, Adam and inverse square root, in the steps of fairseq's Trainer.

    train           trains the model in place, from the last checkpoint if there is one
    update          one optimizer step, on a list of batches
    Precision       mixed precision: bfloat16 needs no care, float16 has its losses scaled

fairseq's own Trainer would save pickles and reseed by its own rule; this loop does the same arithmetic in the same
order: sum the losses, backward, divide the gradients by the number of target tokens, clip, step. The N:M method's term
enters at the optimizer's step, so after the division, and in the units of the mean loss per token.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nmbench.task import NonFiniteError, Run
from nmbench_tasks.translation import compat  # noqa: F401
from nmbench_tasks.translation.corpus import Batch, Corpus, TrainingBatches, moved
from nmbench_tasks.translation.scales import Settings

# isort: split
from contextlib import AbstractContextManager

from fairseq import criterions
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.optim.lr_scheduler.inverse_square_root_schedule import (
    InverseSquareRootLRScheduleConfig,
    InverseSquareRootSchedule,
)
from torch import Tensor

#: an update that overflows float16 is done again with half the scale; so often at most
_OVERFLOWS = 24


def train(model: nn.Module, run: Run) -> None:
    """Train `model` in place for all updates; it is left on the run's device.

    Raises DataError if there is no pair to train on, NonFiniteError if a gradient is not finite.
    """
    settings, device = Settings.of(run.spec), torch.device(run.device)
    corpus = Corpus(run.data.path, settings)
    fairseq_model: Any = model.to(device).train()
    criterion = criterion_of(corpus, settings.label_smoothing)
    optimizer = adam(model, settings)
    rate = schedule(optimizer, settings)
    run.bind(optimizer.optimizer)  # not fairseq's wrapper: that one only calls this one's step
    precision = Precision(settings.precision if device.type == "cuda" else "fp32", device, optimizer.optimizer)
    batches = TrainingBatches(corpus, run)
    if resumed := run.load_checkpoint(model, optimizer.optimizer):
        batches.load_state_dict(resumed["batches"])
        precision.scaler.load_state_dict(resumed["scaler"])
    total = settings.updates
    while run.updates < total:
        lr = rate.step_update(run.updates)  # a function of the number alone: a resumed run needs no state of it
        fairseq_model.set_num_updates(run.updates)
        samples = [moved(batch, device) for batch in next(batches)]
        loss = update(model, samples, criterion, optimizer, precision, settings.clip_norm, run.distilled)
        run.step(loss=loss, lr=lr, total=total)
        if run.checkpoint_due():
            state = {"batches": batches.state_dict(), "scaler": precision.scaler.state_dict()}
            run.save_checkpoint(model, optimizer.optimizer, **state)


def update(
    model: nn.Module, samples: list[Batch], criterion: Any, optimizer: FairseqAdam, precision: Precision, clip: float,
    distilled: Callable[[Tensor, int], Tensor] = lambda summed, tokens: summed,
) -> float:  # fmt: skip
    """One optimizer step on `samples`; the mean loss per target token in nats, label smoothing included.

    distilled: is given the loss of each batch and the number of its target tokens, and returns what is trained.

    Where float16 overflows, the same batches are taken again with the same dropout, so that an overflow in one of two
    twins does not set their streams apart. Raises NonFiniteError if the gradient is not finite.
    """
    drawn = _generator_states()
    for _ in range(_OVERFLOWS):
        optimizer.zero_grad()
        loss, tokens = torch.zeros((), device=samples[0]["target"].device), 0
        for sample in samples:
            with precision.forward():
                summed, size, _ = criterion(model, sample)
                summed = distilled(summed, int(size))
            precision.backward(summed)
            loss += summed.detach()
            tokens += int(size)
        precision.unscale()
        optimizer.multiply_grads(1.0 / tokens)
        norm = float(optimizer.clip_grad_norm(clip))
        if not math.isfinite(norm) and not precision.scaler.is_enabled():
            raise NonFiniteError(f"the gradient's norm is {norm} (loss {float(loss) / tokens:.4g})")
        if precision.step():
            return float(loss) / tokens
        _restore(drawn)
    raise NonFiniteError(f"the gradient overflows float16 at every scale ({_OVERFLOWS} tried)")


def criterion_of(corpus: Corpus, smoothing: float) -> Any:
    """fairseq's label-smoothed cross-entropy: the sum over the target tokens of a batch, and their number."""
    config = Namespace(
        criterion="label_smoothed_cross_entropy",
        label_smoothing=smoothing,
        sentence_avg=False,  # gradients are normalised by tokens
        ignore_prefix_size=0,
        report_accuracy=False,
    )
    return criterions.build_criterion(config, corpus.task)


def adam(model: nn.Module, settings: Settings) -> FairseqAdam:
    """fairseq's Adam over all parameters (its own, also where apex brings a fused one)."""
    config = FairseqAdamConfig(
        adam_betas=f"({float(settings.adam_beta1)}, {float(settings.adam_beta2)})",
        adam_eps=settings.adam_eps,
        weight_decay=settings.weight_decay,
        use_old_adam=True,
        tpu=False,
        lr=[settings.lr],
    )
    return FairseqAdam(config, [p for p in model.parameters() if p.requires_grad])


def schedule(optimizer: FairseqAdam, settings: Settings) -> InverseSquareRootSchedule:
    """fairseq's schedule: linear to `lr` over `warmup_updates`, then lr * sqrt(warmup_updates / update)."""
    config = InverseSquareRootLRScheduleConfig(
        warmup_updates=max(1, settings.warmup_updates), warmup_init_lr=settings.warmup_init_lr, lr=[settings.lr]
    )
    return InverseSquareRootSchedule(config, optimizer)


def _generator_states() -> tuple[Any, Any]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]  # torch's own


def _restore(states: tuple[Any, Any]) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1])


_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Precision `name` ("fp32", "bf16" or "fp16") for the torch optimizer `optimizer` on `device`.

    Weights, gradients and Adam's moments are float32 in each.
    """

    def __init__(self, name: str, device: torch.device, optimizer: torch.optim.Optimizer) -> None:
        self._type, self._device, self._optimizer = _TYPES[name], device.type, optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self) -> AbstractContextManager[Any]:
        """Matrix products in the lower precision."""
        return torch.autocast(self._device, self._type, enabled=self._type is not torch.float32)

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, added to those that are there."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's own

    def unscale(self) -> None:
        """Gradients in their own units again. Before anything that looks at their size."""
        self.scaler.unscale_(self._optimizer)

    def step(self) -> bool:
        """The optimizer's step. False if a gradient overflowed float16: no step was done, and the scale is halved."""
        before = self.scaler.get_scale()
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before
