"""The training scaffold on Lightning Fabric: set-up, and parts (epochs, stages) of steps that a resumed run continues.

fabric      Fabric for a cell's device
remaining   the parts that are left, each with its first step
stepped     what follows an optimizer step: the harness hears of it, and a checkpoint is written once a while
set_rate    the learning rate of the next step
"""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nmbench.task import Run


def fabric(device: str, amp: bool) -> Fabric:
    """Fabric on `device` ("cpu", "cuda:1"), with bfloat16 autocast on CUDA if `amp`."""
    place = torch.device(device)
    cuda = place.type == "cuda"
    precision = "bf16-mixed" if amp and cuda else "32-true"
    return Fabric(accelerator=place.type, devices=[place.index or 0] if cuda else 1, precision=precision)  # type: ignore[arg-type]  # a Literal


def remaining(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> Iterator[tuple[int, int]]:
    """(part, first step of it) from the last checkpoint on, which is loaded, or from (0, 0)."""
    state = run.load_checkpoint(model, optimizer) or {"part": 0, "step": 0}
    for part in range(state["part"], parts):
        yield part, state["step"] if part == state["part"] else 0


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Schedules are functions of the step alone, so that a resumed run needs no scheduler state."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def stepped(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, place: tuple[int, int], total: int
) -> None:
    """Step `place` (part, step) of `total` in all was done, with mean loss `loss`."""
    run.step(loss=loss, lr=optimizer.param_groups[0]["lr"], total=total)
    if run.checkpoint_due():
        run.save_checkpoint(model, optimizer, part=place[0], step=place[1] + 1)
